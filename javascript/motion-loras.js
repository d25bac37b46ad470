// Motion LoRAs as rows with a slider each. The list itself is JSON in the field under them; text of another kind, as
// somebody may have saved it for a default, is left to the field.
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

    // The text is the weight, a number or a curve; the slider shows a number as far as it reaches.
    function rowOf(list, items, index) {
        const row = list.row.cloneNode(true);
        const [name, weight] = items[index];
        const [slider, typed] = row.querySelectorAll("input");
        row.firstElementChild.textContent = name;
        typed.value = weight;
        Object.assign(slider, {value: weight, disabled: typeof weight === "string"});
        for (const input of [slider, typed]) input.setAttribute("aria-label", `${input.ariaLabel}: ${name}`);
        const change = (text) => {
            const {low, high} = list.root.dataset;
            const wanted = Number.isNaN(Number(text)) ? text.trim() : Math.min(Math.max(Number(text), low), high);
            put(list, items.map((item, at) => (at === index ? [name, wanted] : item)));
        };
        slider.addEventListener("input", () => (typed.value = slider.value));
        slider.addEventListener("change", () => change(slider.value));
        typed.addEventListener("change", () => change(typed.value));
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
    onUiLoaded(() => lists.push(...[...gradioApp().querySelectorAll(".motion-loras")].map(makeList)));
    onAfterUiUpdate(() => lists.forEach(refresh));
})();
