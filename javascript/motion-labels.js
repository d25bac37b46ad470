// What gradio leaves out of the accordion: names for what a screen reader finds, and more help where a line is too short.
(function () {
    const accordions = () => gradioApp().querySelectorAll("[id$='_motion_enabled'].input-accordion");

    const INFO = "[data-testid=block-info]";

    // Sliders and lists have their title beside them, not as their label; buttons to choose one of have names, but not
    // what they are choices of.
    function nameInputs(accordion) {
        for (const input of accordion.querySelectorAll("input:not([aria-label]), textarea:not([aria-label])")) {
            const block = input.closest(".block:not(.input-accordion)");
            const info = block?.querySelector(INFO);
            const beside = info?.closest(".block") === block;  // of a block around others it is another's
            const title = (beside ? info : input.closest(".label-wrap, label"))?.textContent.trim();
            if (title) (input.type === "radio" ? block : input).setAttribute("aria-label", title);
        }
    }

    // A button in the title opens what the line of help has no room for. A checkbox has its title beside it.
    function addDetails(accordion) {
        for (const detail of accordion.querySelectorAll(".motion-details li")) {
            const block = gradioApp().getElementById(detail.dataset.for);
            const title = block?.querySelector(INFO) || block?.querySelector("label > span");
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
            title.append(button);  // beside it, it would be one more column of a slider's head
            const slider = block.querySelector("input[type=range]");  // that stays at the end, beside the others of its row
            if (slider) slider.before(text);
            else block.append(text);
        }
    }

    onAfterUiUpdate(() => {
        for (const accordion of accordions()) {
            nameInputs(accordion);
            addDetails(accordion);
        }
    });
})();
