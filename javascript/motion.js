// Plays the clips that the host's gallery cannot show (MP4, WebM) under it, from the paths in its comments; says why a
// job was refused on pages that show another error instead (reForge's); and lets one type more than sliders reach.
(function () {
    const tabs = ["txt2img", "img2img"];
    const label = "Motion clip: ";
    const shown = {};

    // The paths named in the result's comments, or null while they are the ones shown already.
    function clips(tab) {
        const comments = gradioApp().querySelector(`#html_log_${tab} .comments`);
        const text = comments ? comments.innerText : "";
        if (text === shown[tab]) return null;
        shown[tab] = text;
        const lines = text.split("\n").filter((line) => line.startsWith(label));
        return lines.map((line) => line.slice(label.length).trim());
    }

    function video(path) {
        const element = document.createElement("video");
        const address = path.split("/").map(encodeURIComponent).join("/"); // "#" and "?" are of the name
        element.src = `file=${address}?${Date.now()}`;
        element.controls = element.loop = element.autoplay = element.muted = true;
        element.style.maxWidth = "100%";
        return element;
    }

    function place(tab, found) {
        const gallery = gradioApp().getElementById(`${tab}_gallery_container`);
        if (!gallery) return;
        const id = `motion_videos_${tab}`;
        gradioApp().getElementById(id)?.remove();
        const videos = found.filter((path) => /\.(mp4|webm)$/.test(path)).map(video);
        if (!videos.length) return;
        const box = document.createElement("div");
        box.id = id;
        box.append(...videos);
        gallery.after(box);
    }

    // The host's script asks for the progress of the job that this tab of the browser has started: that is its name.
    const jobs = {};
    const request = window.requestProgress;
    if (request) {
        window.requestProgress = function (id, container, ...others) {
            const tab = tabs.find((name) => container && container.id === `${name}_gallery_container`);
            if (tab) jobs[tab] = id;
            return request.call(this, id, container, ...others);
        };
    }

    async function explain(tab) {
        const errors = [...gradioApp().querySelectorAll(`#html_log_${tab} .error`)];
        for (const error of errors.filter((one) => jobs[tab] && !one.dataset.motion)) {
            error.dataset.motion = "asked";
            const answer = await fetch(`motion/v1/refusal?task=${encodeURIComponent(jobs[tab])}`);
            const { sentence } = answer.ok ? await answer.json() : {};
            if (sentence) error.innerText = sentence;
        }
    }

    // Sliders end where most values lie. When the box beside one is left, gradio would cut its number off there.
    function keepWhatWasTyped(event) {
        const box = event.target;
        const ours = box instanceof HTMLInputElement && box.matches("[id*='_motion_'] input[type=number]");
        if (ours && Number(box.value) > Number(box.max)) event.stopPropagation();
    }

    document.addEventListener("blur", keepWhatWasTyped, true);
    onAfterUiUpdate(() => {
        for (const tab of tabs) {
            explain(tab);
            const found = clips(tab);
            if (found) place(tab, found);
        }
    });
})();
