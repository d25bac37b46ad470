// Under the gallery: each clip at a size that can be watched, with links to its files and a button by which it goes on,
// from the paths in the result's comments. The gallery itself shows pictures alone, and no MP4 or WebM.
(function () {
    const tabs = ["txt2img", "img2img"];
    const label = "Motion clip: ";
    const SMALL = 256; // pixels up to which a clip is pixel art or a trial, and is enlarged without blurring
    const GIVEN = 8; // frames of a clip that goes on, unless the page says how many
    const BEST = ["apng", "webp", "webm", "mp4", "gif"]; // the first two lose nothing
    const shown = {};

    // The paths named in the result's comments, or null while they are the ones shown already.
    function named(tab) {
        const comments = gradioApp().querySelector(`#html_log_${tab} .comments`);
        const text = comments ? comments.innerText : "";
        if (text === shown[tab]) return null;
        shown[tab] = text;
        const lines = text.split("\n").filter((line) => line.startsWith(label));
        return lines.map((line) => line.slice(label.length).trim());
    }

    // The files of each clip: those that differ in their suffix alone.
    function clipsOf(paths) {
        const clips = new Map();
        for (const path of paths) {
            const stem = path.replace(/\.\w+$/, "");
            clips.set(stem, [...(clips.get(stem) || []), path]);
        }
        return [...clips.values()];
    }

    function element(name, values, ...children) {
        const made = Object.assign(document.createElement(name), values);
        made.append(...children);
        return made;
    }

    const address = (path) => `file=${path.split("/").map(encodeURIComponent).join("/")}`; // "#" and "?" are of the name
    const nameOf = (path) => path.split(/[\\/]/).pop();

    function player(path) {
        const src = `${address(path)}?${Date.now()}`;
        const sharpen = (width) => media.classList.toggle("motion-result-small", width <= SMALL);
        const isMovie = /\.(mp4|webm)$/.test(path);
        const media = isMovie ? element("video", {src, title: nameOf(path)}) : element("img", {src, alt: nameOf(path)});
        if (isMovie) {
            media.controls = media.loop = media.autoplay = media.muted = true;
            media.addEventListener("loadedmetadata", () => sharpen(media.videoWidth));
        } else {
            media.addEventListener("load", () => sharpen(media.naturalWidth));
        }
        return media;
    }

    // Let the page draw how the clip goes on: it is the source, of which the last frames are given.
    function extend(tab, paths) {
        const part = (name, field) => gradioApp().querySelector(`#script_${tab}_motion_${name} ${field}`);
        const fill = (box, value) => updateInput(Object.assign(box, {value}));
        const given = part("extend", "input[type=number]");
        const places = paths.map((path) => BEST.indexOf(path.split(".").pop()));
        const enabled = part("enabled", ".label-wrap input[type=checkbox]");
        if (!enabled.checked) enabled.click();
        if (!Number(given.value)) fill(given, GIVEN);
        fill(part("source", "textarea"), paths[places.indexOf(Math.min(...places))]);
        setTimeout(() => gradioApp().getElementById(`${tab}_generate`).click(), 500); // gradio has taken the values by then
    }

    function figure(tab, paths) {
        const links = paths.flatMap((path) => {
            const href = address(path);
            const link = element("a", {href, target: "_blank", title: path, textContent: nameOf(path)});
            return [link, element("a", {href, download: nameOf(path), textContent: "Download"})];
        });
        const button = element("button", {
            type: "button",
            className: "lg secondary gradio-button",
            textContent: "Extend",
            title: "draws how the clip goes on, and puts it behind",
            onclick: () => extend(tab, paths),
        });
        return element("figure", {}, player(paths[0]), element("figcaption", {}, ...links, button));
    }

    function place(tab, paths) {
        const gallery = gradioApp().getElementById(`${tab}_gallery_container`);
        if (!gallery) return;
        const id = `motion_result_${tab}`;
        gradioApp().getElementById(id)?.remove();
        if (!paths.length) return;
        const box = element("section", {id, className: "motion-result", ariaLabel: "Clips"});
        // What finishes a clip is put into the last part; it is not in sight while that is empty.
        const more = element("div", {className: "motion-result-more"});
        box.append(...clipsOf(paths).map((files) => figure(tab, files)), more);
        gallery.after(box);
    }

    onAfterUiUpdate(() => {
        for (const tab of tabs) {
            const paths = named(tab);
            if (paths) place(tab, paths);
        }
    });
})();
