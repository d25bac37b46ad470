// The strip of key frames: thumbs along the clip, pictures that are dropped, and the settings of each. What is known
// about them is answered by the host (motion/v1/keys); the list itself is the text in the field under the strip.
(function () {
    const DRAGGED = "application/x-motion-key";
    const NOTHING = {key_frames: [], places: [], problems: [], problem: "", kinds: {}};
    const STILL = 4; // pixels that a finger trembles

    // One strip of the page: what it shows, and the number of its newest question.
    function makeStrip(root) {
        const text = gradioApp().querySelector(`#${root.dataset.text} textarea`);
        const frames = gradioApp().querySelector(`#${root.dataset.frames} input[type=number]`);
        const part = (name) => root.querySelector(`.motion-strip-${name}`);
        const strip = {root, text, frames, answer: NOTHING, asked: 0, drawn: null};
        for (const name of ["line", "keys", "problem", "tools", "large"]) strip[name] = part(name);
        strip.card = root.querySelector("template").content.firstElementChild;
        const block = gradioApp().getElementById(root.dataset.text);
        const form = block.parentElement;
        (form.children.length === 1 ? form : block).style.display = "none";
        listen(strip);
        return strip;
    }

    const lastFrame = (strip) => Math.max(Number(strip.frames.value) - 1, 0);
    const written = (strip) => JSON.stringify([strip.text.value, strip.frames.value]);
    const keysOf = (strip) => strip.answer.key_frames;
    // The last frame follows the number of frames.
    const frameText = (strip, frame) => (Number(frame) === lastFrame(strip) ? "-1" : String(frame));

    // The list that the text holds; none while it is no list.
    function read(strip) {
        try {
            return JSON.parse(strip.text.value || "[]");
        } catch {
            return [];
        }
    }

    // Ask the host about `keys`, keep its answer in the text and show it. What it refuses changes nothing, and is said
    // on the card at `index`, if one is given.
    async function put(strip, keys, {preset, index, said = ""} = {}) {
        const number = ++strip.asked;
        strip.root.ariaBusy = "true";
        const asked = {frames: Number(strip.frames.value), key_frames: keys, preset};
        const reply = await fetch("motion/v1/keys", {method: "POST", body: JSON.stringify(asked)});
        const answer = await reply.json();
        if (number !== strip.asked) return;
        strip.root.ariaBusy = "false";
        if (!reply.ok) {
            draw(strip, answer.detail, index);
            return;
        }
        const value = answer.key_frames.length ? JSON.stringify(answer.key_frames) : "";
        if (value !== strip.text.value) {
            strip.text.value = value;
            updateInput(strip.text);
        }
        Object.assign(strip, {answer, drawn: written(strip)});
        draw(strip, said);
    }

    function change(strip, index, values) {
        const keys = keysOf(strip).map((key, at) => (at === index ? {...key, ...values} : key));
        return put(strip, keys, {index});
    }

    // Picture and settings go from one place to another; those between move up. The frames stay where they are.
    function move(strip, from, to) {
        const keys = keysOf(strip);
        if (to < 0 || to >= keys.length || from === to) return;
        const order = keys.slice();
        order.splice(to, 0, order.splice(from, 1)[0]);
        strip.follow = to;
        put(strip, order.map((key, at) => ({...key, frame: keys[at].frame})));
    }

    // Send pictures to the host, which puts them behind the last one, the first at `frame` if one is given. What is no
    // picture is named, and the others stand.
    async function add(strip, files, frame) {
        const added = [];
        const refused = [];
        strip.root.ariaBusy = "true";
        for (const file of files) {
            const reply = await fetch("motion/v1/images", {method: "POST", body: file});
            const answer = await reply.json();
            if (reply.ok) added.push({image: answer.image, frame: added.length ? undefined : frame});
            else refused.push(`${file.name}: ${answer.detail}`);
        }
        await put(strip, [...keysOf(strip), ...added], {said: refused.join("\n")});
    }

    function element(name, values, ...children) {
        const made = Object.assign(document.createElement(name), values);
        made.append(...children);
        return made;
    }

    const source = (key) => `motion/v1/images/${key.image}`;
    const along = (strip, place) => `${(100 * place) / Math.max(lastFrame(strip), 1)}%`;

    // Show the newest answer, and what else is to be said: on the card at `index`, or for all.
    function draw(strip, said = "", index = -1) {
        const {places, problems, problem, kinds} = strip.answer;
        const at = (frame) => ({style: `left: ${along(strip, frame)}`});
        const ticks = Array.from({length: lastFrame(strip) + 1}, (_, frame) => element("i", at(frame)));
        const focused = focus(strip);
        strip.line.replaceChildren(...ticks, ...keysOf(strip).map((key, number) => thumbOf(strip, key, number)));
        const cards = keysOf(strip).map((key, number) => cardOf(strip, key, number, kinds));
        cards.forEach((card, number) => {
            const wrong = number === index ? said : problems[number];
            card.querySelector("[data-part=problem]").textContent = wrong;
        });
        strip.keys.replaceChildren(...cards);
        focused(strip.follow);
        strip.follow = undefined;
        strip.problem.textContent = [index < 0 ? said : "", problem].filter(Boolean).join("\n");
        strip.root.toggleAttribute("data-empty", !places.length);
    }

    // What puts the focus back where it is now, or on the same part of another card.
    function focus(strip) {
        const items = () => [...strip.keys.children, ...strip.line.querySelectorAll("figure")];
        const parts = (item) => [item, ...item.querySelectorAll("input, select, button")];
        const index = items().findIndex((item) => item.contains(document.activeElement));
        const part = index < 0 ? -1 : parts(items()[index]).indexOf(document.activeElement);
        return (other) => {
            const item = items()[other ?? index];
            if (item && part >= 0) parts(item)[part]?.focus();
        };
    }

    // A picture on the line: it is dragged or moved with the arrow keys, and a click shows it large.
    function thumbOf(strip, key, index) {
        const place = strip.answer.places[index];
        const caption = element("figcaption", {textContent: place});
        const thumb = element("figure", {tabIndex: 0}, element("img", {src: source(key), alt: "", draggable: false}), caption);
        const show = (frame) => {
            thumb.style.left = along(strip, frame);
            caption.textContent = frame;
        };
        const facts = {role: "slider", "aria-label": "Frame", "aria-valuemin": 0, "aria-valuemax": lastFrame(strip)};
        for (const [name, value] of Object.entries({...facts, "aria-valuenow": place})) thumb.setAttribute(name, value);
        show(place);
        const go = (frame) => change(strip, index, {frame: frameText(strip, frame)});
        thumb.addEventListener("keydown", (event) => {
            const step = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1}[event.key];
            if (event.key === "Enter") enlarge(strip, key);
            else if (step) go(Math.min(Math.max(place + step, 0), lastFrame(strip)));
            else return;
            event.preventDefault();
        });
        thumb.addEventListener("pointerdown", (event) => {
            if (event.button) return;
            event.preventDefault();
            thumb.focus();
            follow(thumb, event, (moved) => show(frameAt(strip, moved)), (ended, moved) => {
                if (moved) go(frameAt(strip, ended));
                else enlarge(strip, key);
            });
        });
        return thumb;
    }

    // Follow a pointer from where it came down: `along` is told of each move, `end` of the last and whether it moved.
    function follow(target, start, along, end) {
        target.setPointerCapture(start.pointerId);
        let moved = false;
        const move = (event) => {
            moved = moved || Math.abs(event.clientX - start.clientX) >= STILL;
            if (moved) along(event);
        };
        const stop = (event) => {
            target.removeEventListener("pointermove", move);
            if (event.type === "pointerup") end(event, moved);
        };
        target.addEventListener("pointermove", move);
        target.addEventListener("pointerup", stop, {once: true});
        target.addEventListener("pointercancel", stop, {once: true});
    }

    function enlarge(strip, key) {
        strip.large.querySelector("img").src = source(key);
        strip.large.showModal();
    }

    function cardOf(strip, key, index, kinds) {
        const card = strip.card.cloneNode(true);
        const part = (name) => card.querySelector(`[data-part=${name}]`);
        const named = Object.entries(kinds).map(([name, kind]) => [name, `${kind}: ${name}`]);
        const offered = key.encoder in kinds ? named : [[key.encoder, key.encoder], ...named];
        part("encoder").append(...offered.map(([value, textContent]) => element("option", {value, textContent})));
        part("encoder").title = key.encoder;
        card.querySelector("img").src = source(key);
        card.querySelector("img").addEventListener("click", () => enlarge(strip, key));
        const last = key.frame === "-1";
        part("frame").value = last ? strip.answer.places[index] : key.frame;
        part("last").hidden = !last;
        part("strength").value = key.strength;
        part("encoder").value = key.encoder;
        const told = {
            frame: (value) => frameText(strip, value.trim() || "?"),
            strength: (value) => (Number.isNaN(Number(value)) ? value.trim() : Number(value)),
            encoder: (value) => value,
        };
        for (const [name, read] of Object.entries(told)) {
            part(name).addEventListener("change", () => change(strip, index, {[name]: read(part(name).value)}));
        }
        for (const button of card.querySelectorAll("[data-move]")) {
            button.addEventListener("click", () => move(strip, index, index + Number(button.dataset.move)));
        }
        const remove = () => put(strip, keysOf(strip).filter((_, at) => at !== index));
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

    function frameAt(strip, event) {
        const box = strip.line.getBoundingClientRect();
        const far = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
        return Math.round(far * lastFrame(strip));
    }

    function listen(strip) {
        const picker = strip.tools.querySelector("input[type=file]");
        picker.addEventListener("change", async () => {
            await add(strip, [...picker.files]);
            picker.value = "";
        });
        for (const button of strip.tools.querySelectorAll("[data-preset]")) {
            const preset = button.dataset.preset;
            button.addEventListener("click", () => put(strip, keysOf(strip), {preset}));
        }
        strip.tools.querySelector("[data-clear]").addEventListener("click", () => put(strip, []));
        strip.large.addEventListener("click", () => strip.large.close());
        const place = (event) => frameText(strip, frameAt(strip, event));
        accept(
            strip.line,
            (files, event) => add(strip, files, place(event)),
            (index, event) => change(strip, index, {frame: place(event)}),
        );
        strip.frames.addEventListener("change", () => refresh(strip));
    }

    // Text and number of frames are also written by the host: pasted parameters, presets.
    function refresh(strip) {
        if (strip.drawn === written(strip)) return;
        strip.drawn = written(strip);
        const keys = read(strip);
        if (keys.length) {
            put(strip, keys);
            return;
        }
        strip.asked += 1; // an answer that is still to come is to what was there before
        strip.answer = NOTHING;
        draw(strip);
    }

    const strips = [];
    onUiLoaded(() => strips.push(...[...gradioApp().querySelectorAll(".motion-strip")].map(makeStrip)));
    onAfterUiUpdate(() => strips.forEach(refresh));
})();
