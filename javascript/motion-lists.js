// Files in a list as rows, each with what can be set of it. The list itself is JSON in the field under it, of arrays or
// objects, whose parts the elements of a row name; text of another kind, as somebody may have saved it for a default, is
// left to the field.
(function () {
    function read(text) {
        try {
            return JSON.parse(text || "[]");
        } catch {
            return null;
        }
    }

    function makeList(root) {
        const block = gradioApp().getElementById(root.dataset.text);
        const list = {root, block, text: block.querySelector("textarea"), rows: root.querySelector("ul"), drawn: null};
        list.row = root.querySelector("template").content.firstElementChild;
        return list;
    }

    function put(list, items) {
        list.text.value = items.length ? JSON.stringify(items) : "";
        updateInput(list.text);
        refresh(list);
    }

    // What was typed: a text, a number inside its bounds, or what is no number and may be a curve.
    function valueOf(input, typed) {
        const {kind, low, high} = input.dataset;
        if (kind === "text") return typed.trim();
        const number = Number(typed);
        if (kind === "curve" && Number.isNaN(number)) return typed.trim();
        return Math.min(Math.max(number || 0, low), high);
    }

    function rowOf(list, items, index) {
        const row = list.row.cloneNode(true);
        const item = items[index];
        const [label] = row.querySelectorAll("span[data-part]");
        label.textContent = item[label.dataset.part];
        const inputs = [...row.querySelectorAll("input")];
        for (const input of inputs) {
            const part = input.dataset.part;
            const typed = inputs.find((other) => other.dataset.part === part && other.type === "text");
            const change = (text) => {
                const changed = Object.assign(Array.isArray(item) ? [...item] : {...item}, {[part]: valueOf(typed, text)});
                put(list, items.map((other, at) => (at === index ? changed : other)));
            };
            input.value = item[part] ?? "";
            input.disabled = input.type === "range" && typeof item[part] === "string";
            input.setAttribute("aria-label", `${input.ariaLabel}: ${label.textContent}`);
            input.addEventListener("input", () => (typed.value = input.value));
            input.addEventListener("change", () => change(input.value));
        }
        row.querySelector("button").addEventListener("click", () => put(list, items.filter((_, at) => at !== index)));
        return row;
    }

    function refresh(list) {
        if (list.drawn === list.text.value) return;
        list.drawn = list.text.value;
        const items = read(list.text.value);
        const form = list.block.parentElement;
        (form.children.length === 1 ? form : list.block).style.display = items ? "none" : "";
        const places = [...list.rows.querySelectorAll("input, button")];
        const focused = places.indexOf(document.activeElement);
        list.rows.replaceChildren(...(items || []).map((_, index) => rowOf(list, items, index)));
        if (focused >= 0) list.rows.querySelectorAll("input, button")[focused]?.focus();
    }

    const lists = [];
    onUiLoaded(() => lists.push(...[...gradioApp().querySelectorAll(".motion-list")].map(makeList)));
    onAfterUiUpdate(() => lists.forEach(refresh));
})();
