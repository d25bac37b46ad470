// What gradio leaves out of the accordion: names for what a screen reader finds, and more help where a line is too short.
(function () {
    const accordions = () => gradioApp().querySelectorAll("[id$='_motion_enabled'].input-accordion");

    // Sliders and lists have their title beside them, not as their label.
    function nameInputs(accordion) {
        for (const input of accordion.querySelectorAll("input:not([aria-label]), textarea:not([aria-label])")) {
            const block = input.closest(".block:not(.input-accordion)");
            const info = block?.querySelector("[data-testid=block-info]");  // of a block around others, another's
            const title = info?.closest(".block") === block && info?.textContent.trim();
            const heading = input.closest(".label-wrap")?.textContent.trim();
            if (title || heading) input.setAttribute("aria-label", title || heading);
        }
    }

    // A button beside the title opens what the line of help has no room for.
    function addDetails(accordion) {
        for (const detail of accordion.querySelectorAll(".motion-details li")) {
            const block = gradioApp().getElementById(detail.dataset.for);
            const title = block?.querySelector("[data-testid=block-info]");
            if (!title || block.querySelector(".motion-detail")) continue;
            const text = Object.assign(document.createElement("p"), {className: "motion-note", hidden: true});
            const button = Object.assign(document.createElement("button"), {type: "button", className: "motion-detail"});
            button.setAttribute("aria-label", `${title.textContent.trim()}: ?`);
            button.setAttribute("aria-expanded", "false");
            button.addEventListener("click", (event) => {
                event.preventDefault();
                text.textContent = detail.textContent;
                text.hidden = !text.hidden;
                button.setAttribute("aria-expanded", String(!text.hidden));
            });
            title.after(button);
            block.append(text);
        }
    }

    onAfterUiUpdate(() => {
        for (const accordion of accordions()) {
            nameInputs(accordion);
            addDetails(accordion);
        }
    });
})();
