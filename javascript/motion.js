// Says why a job was refused on pages that show another error instead (reForge's); lets one type more than sliders
// reach; fills the lists of a tab that begins with Motion on, and when another checkpoint is loaded; pastes the
// parameters that the accordion has read; and opens the list of presets again when others have come into it.
(function () {
    const tabs = ["txt2img", "img2img"];
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

    // Sliders begin and end where most values lie. When the box beside one is left, gradio would cut its number off there.
    function keepWhatWasTyped(event) {
        const box = event.target;
        const ours = box instanceof HTMLInputElement && box.matches("[id*='_motion_'] input[type=number]");
        const beyond = Number(box.value) > Number(box.max) || Number(box.value) < Number(box.min);
        if (ours && box.value && beyond) event.stopPropagation();
    }

    const part = (tab, name) => gradioApp().getElementById(`script_${tab}_motion_${name}`);

    const isOn = (tab) => part(tab, "enabled")?.querySelector(".label-wrap input[type=checkbox]")?.checked;

    function refreshLists() {
        for (const tab of tabs.filter(isOn)) part(tab, "refresh").click();
    }

    // Of a tab that begins with Motion on; a page that is just being built does not hear each click.
    function fillLists(tries = 5) {
        const empty = tabs.filter((tab) => isOn(tab) && !part(tab, "notes").textContent.trim());
        for (const tab of empty) part(tab, "refresh").click();
        if (tries) setTimeout(() => fillLists(tries - 1), 2000);
    }

    // A saved default of 0.1.0 also holds where the slider of rates began, and steps are counted from there.
    function stepFromWholeNumbers() {
        for (const slider of gradioApp().querySelectorAll("[id*='_motion_'] input[type=range][step='1']")) {
            slider.min = Math.ceil(slider.min);
        }
    }

    let checkpoint = "";
    function followCheckpoint() {
        const loaded = `${opts.sd_model_checkpoint} ${opts.sd_checkpoint_hash}`;
        if (checkpoint && checkpoint !== loaded) refreshLists();
        checkpoint = loaded;
    }

    // What the accordion has read stands in a hidden text; a mark beside it says that it has just come.
    function pasteWhatWasRead() {
        for (const mark of gradioApp().querySelectorAll("[data-motion-paste]")) {
            const button = gradioApp().getElementById(mark.dataset.motionPaste);
            if (mark.dataset.checkpoint) selectCheckpoint(mark.dataset.checkpoint);
            mark.remove();
            button.click();
        }
    }

    // Presets may have been kept or deleted in another tab: the list that is open is opened again with them.
    function reopenPresets() {
        for (const tab of tabs) {
            const names = part(tab, "preset_names")?.querySelector("[data-motion-presets]:not([data-seen])");
            if (!names) continue;
            names.dataset.seen = "yes";
            const box = part(tab, "preset").querySelector("input");
            if (document.activeElement !== box) continue;
            box.blur();
            box.focus();
        }
    }

    document.addEventListener("blur", keepWhatWasTyped, true);
    onUiLoaded(() => {
        fillLists();
        stepFromWholeNumbers();
    });
    onOptionsChanged(followCheckpoint);
    onAfterUiUpdate(() => {
        tabs.forEach(explain);
        pasteWhatWasRead();
        reopenPresets();
    });
})();
