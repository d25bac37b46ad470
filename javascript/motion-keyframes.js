// The strip of key frames: thumbs along the clip, pictures that are dropped, and the settings of each. What is known
// about them is answered by the host (motion/v1/keys); the list itself is the text in the field under the strip.
(function () {
    const DRAGGED = "application/x-motion-key";

    // One strip of the page: what it shows, and the number of its newest question.
    function makeStrip(root) {
        const text = gradioApp().querySelector(`#${root.dataset.text} textarea`);
        const frames = gradioApp().querySelector(`#${root.dataset.frames} input[type=number]`);
        const part = (name) => root.querySelector(`.motion-strip-${name}`);
        const strip = {root, text, frames, keys: [], places: [], asked: 0, drawn: null};
        Object.assign(strip, {line: part("line"), list: part("keys"), problem: part("problem"), tools: part("tools")});
        strip.card = root.querySelector("template").content.firstElementChild;
        const block = gradioApp().getElementById(root.dataset.text);
        const form = block.parentElement;
        (form.children.length === 1 ? form : block).style.display = "none";
        listen(strip);
        return strip;
    }

    const clipLength = (strip) => Number(strip.frames.value);
    const written = (strip) => JSON.stringify([strip.text.value, strip.frames.value]);

    // The list that the text holds; none while it is no list.
    function read(strip) {
        try {
            return JSON.parse(strip.text.value || "[]");
        } catch {
            return [];
        }
    }

    // Ask the host about `keys`, keep its answer in the text and show it.
    async function put(strip, keys, preset) {
        const number = ++strip.asked;
        strip.root.ariaBusy = "true";
        const asked = {frames: clipLength(strip), key_frames: keys, preset};
        const reply = await fetch("motion/v1/keys", {method: "POST", body: JSON.stringify(asked)});
        const answer = await reply.json();
        if (number !== strip.asked) return;
        strip.root.ariaBusy = "false";
        if (!reply.ok) {
            strip.problem.textContent = answer.detail;
            return;
        }
        const value = answer.key_frames.length ? JSON.stringify(answer.key_frames) : "";
        if (value !== strip.text.value) {
            strip.text.value = value;
            updateInput(strip.text);
        }
        Object.assign(strip, {keys: answer.key_frames, places: answer.places, drawn: written(strip)});
        draw(strip, answer);
    }

    function changed(strip, index, values) {
        return put(strip, strip.keys.map((key, at) => (at === index ? {...key, ...values} : key)));
    }

    // Picture and settings go from one place to another; those between move up. The frames stay where they are.
    function move(strip, from, to) {
        if (to < 0 || to >= strip.keys.length || from === to) return;
        const order = strip.keys.slice();
        order.splice(to, 0, order.splice(from, 1)[0]);
        strip.follow = to;
        put(strip, order.map((key, at) => ({...key, frame: strip.keys[at].frame})));
    }

    // Send pictures to the host; the first stands at `frame`, if one is given, the rest where there is room.
    async function add(strip, files, frame) {
        const added = [];
        strip.root.ariaBusy = "true";
        for (const file of files) {
            const reply = await fetch("motion/v1/images", {method: "POST", body: file});
            const answer = await reply.json();
            if (!reply.ok) {
                strip.root.ariaBusy = "false";
                strip.problem.textContent = `${file.name}: ${answer.detail}`;
                return;
            }
            added.push({image: answer.image, frame: added.length ? undefined : frame});
        }
        await put(strip, [...strip.keys, ...added]);
    }

    function element(name, values, ...children) {
        const made = Object.assign(document.createElement(name), values);
        made.append(...children);
        return made;
    }

    const source = (key) => `motion/v1/images/${key.image}`;
    const along = (strip, place) => `${(100 * place) / Math.max(clipLength(strip) - 1, 1)}%`;

    function draw(strip, answer) {
        const at = (frame) => ({style: `left: ${along(strip, frame)}`});
        const ticks = Array.from({length: clipLength(strip)}, (_, frame) => element("i", at(frame)));
        const thumbs = strip.keys.map((key, index) => {
            const textContent = strip.places[index];
            const picture = element("img", {src: source(key), alt: ""});
            return element("figure", at(textContent), picture, element("figcaption", {textContent}));
        });
        strip.line.replaceChildren(...ticks, ...thumbs);
        const focused = focus(strip);
        strip.list.replaceChildren(...strip.keys.map((key, index) => cardOf(strip, key, index, answer.kinds)));
        focused(strip.follow);
        strip.follow = undefined;
        strip.problem.textContent = answer.problem;
        strip.root.toggleAttribute("data-empty", !strip.keys.length);
    }

    // What puts the focus back where it is now, or on the same part of another card.
    function focus(strip) {
        const parts = (card) => [...card.querySelectorAll("input, select, button")];
        const index = [...strip.list.children].findIndex((card) => card.contains(document.activeElement));
        const part = index < 0 ? -1 : parts(strip.list.children[index]).indexOf(document.activeElement);
        return (other) => {
            const card = strip.list.children[other ?? index];
            if (card && part >= 0) parts(card)[part].focus();
        };
    }

    function cardOf(strip, key, index, kinds) {
        const card = strip.card.cloneNode(true);
        const part = (name) => card.querySelector(`[data-part=${name}]`);
        const named = Object.entries(kinds).map(([name, kind]) => [name, `${name} (${kind})`]);
        const offered = key.encoder in kinds ? named : [[key.encoder, key.encoder], ...named];
        part("encoder").append(...offered.map(([value, textContent]) => element("option", {value, textContent})));
        card.querySelector("img").src = source(key);
        for (const name of ["frame", "strength", "encoder"]) {
            part(name).value = key[name];
            part(name).addEventListener("change", () => {
                const value = name === "strength" ? Number(part(name).value) : part(name).value;
                changed(strip, index, {[name]: value});
            });
        }
        for (const button of card.querySelectorAll("[data-move]")) {
            button.addEventListener("click", () => move(strip, index, index + Number(button.dataset.move)));
        }
        const remove = () => put(strip, strip.keys.filter((_, at) => at !== index));
        card.querySelector("[data-remove]").addEventListener("click", remove);
        card.addEventListener("dragstart", (event) => event.dataTransfer.setData(DRAGGED, index));
        accept(card, (files) => add(strip, files), (from) => move(strip, from, index));
        return card;
    }

    // Let pictures and cards be dropped there, and nobody else see them; `cards` is told which one it is.
    function accept(target, pictures, cards) {
        const over = (event, is) => {
            if (!event.dataTransfer.types.some((type) => type === "Files" || type === DRAGGED)) return;
            event.preventDefault();
            event.stopPropagation();
            target.classList.toggle("motion-strip-over", is);
        };
        target.addEventListener("dragover", (event) => over(event, true));
        target.addEventListener("dragleave", (event) => over(event, false));
        target.addEventListener("drop", (event) => {
            over(event, false);
            const data = event.dataTransfer;
            if (data.types.includes(DRAGGED)) cards(Number(data.getData(DRAGGED)), event);
            else pictures([...data.files], event);
        });
    }

    function listen(strip) {
        const picker = strip.tools.querySelector("input[type=file]");
        picker.addEventListener("change", async () => {
            await add(strip, [...picker.files]);
            picker.value = "";
        });
        for (const button of strip.tools.querySelectorAll("[data-preset]")) {
            button.addEventListener("click", () => put(strip, strip.keys, button.dataset.preset));
        }
        const frameAt = (event) => {
            const box = strip.line.getBoundingClientRect();
            const far = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
            return String(Math.round(far * (clipLength(strip) - 1)));
        };
        accept(
            strip.line,
            (files, event) => add(strip, files, frameAt(event)),
            (index, event) => changed(strip, index, {frame: frameAt(event)}),
        );
        strip.frames.addEventListener("change", () => refresh(strip));
    }

    // Text and number of frames are also written by the host: pasted parameters, presets.
    function refresh(strip) {
        if (strip.drawn === written(strip)) return;
        strip.drawn = written(strip);
        const keys = read(strip);
        if (keys.length) put(strip, keys);
        else draw(Object.assign(strip, {keys, places: []}), {problem: ""});
    }

    const strips = [];
    onUiLoaded(() => strips.push(...[...gradioApp().querySelectorAll(".motion-strip")].map(makeStrip)));
    onAfterUiUpdate(() => strips.forEach(refresh));
})();
