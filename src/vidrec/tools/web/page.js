"use strict";
(() => {

const STEP = 60;  // cards that are added at once
const MAX_MARKED = 300;  // videos that are marked on one chart
const COLOURS = ["#3b6fe0", "#d9730d", "#2f9e62", "#c2389b", "#8a5cf0", "#b08900", "#0f9aa8", "#d43d3d"];
const find = (selector, inside = document) => inside.querySelector(selector);
const known = value => value !== null && value !== undefined;

/** Make an element; its children are elements or text, and never HTML. */
function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
        if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
        else if (value === true) element.setAttribute(key, "");
        else if (known(value) && value !== false) element.setAttribute(key, value);
    }
    element.append(...children.filter(known));
    return element;
}

// what JSON has as text: numbers that are not finite
const NOT_FINITE = new Map([["nan", NaN], ["inf", Infinity], ["-inf", -Infinity]]);
const number = value => NOT_FINITE.get(value) ?? value;
const short = value => Number.isInteger(number(value)) ? String(value) : String(Number(number(value).toPrecision(5)));

let data = { videos: [], curves: [], clips: [], notes: [] };

// ---------------------------------------------------------------- what a video is called, and what shows it

const nameOf = row => row.tag ?? row.file.split("/").pop();

function titleOf(row) {
    const parts = [["step", row.step], ["env", row.env], ["agent", row.agent], ["episode", row.episode]];
    return [nameOf(row), ...parts.filter(([, value]) => known(value)).map(([name, value]) => `${name} ${value}`)].join(", ");
}

function factsOf(row) {
    const facts = [];
    if (known(row.return)) facts.push(`return ${short(row.return)}`);
    if (known(row.length)) facts.push(`${row.length} steps`);
    if (known(row.ended)) facts.push(row.ended);
    if (known(row.seconds)) facts.push(`${Number(row.seconds).toFixed(1)} s`);
    if (known(row.run) && new Set(data.videos.map(video => video.run)).size > 1) facts.push(row.run);
    return facts.join(" · ");
}

const insideOf = row => document.getElementById(`video-${row.id}`);

/** Return where a video is: a file, or what the page itself has. */
function addressOf(row) {
    const inside = insideOf(row);
    if (!inside) return row.address;
    if (!inside.address) {
        const [type, content] = inside.textContent.split(",", 2);
        const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
        inside.address = URL.createObjectURL(new Blob([bytes], { type }));
    }
    return inside.address;
}

function whyNot(row) {
    if (row.inside && !known(row.address) && !insideOf(row))
        return `It is inside of the event file ${row.file}. vidrec watch shows it, and so does a page of vidrec gallery --embed.`;
    return row.kind ? null : `Browsers do not play this kind of file: ${row.file}`;
}

/** Return what shows a video: a video, an image that moves, or words. */
function shown(row, attributes) {
    const why = whyNot(row);
    if (why) return make("p", {}, why);
    const failed = event => event.target.replaceWith(make("p", {}, `This browser cannot show ${row.file}`));
    const more = { "aria-label": titleOf(row), onerror: failed, ...attributes };
    if (row.kind === "image") return make("img", { alt: titleOf(row), src: addressOf(row), onerror: failed });
    const video = player(more);
    video.src = `${addressOf(row)}#t=0.001`;
    return video;
}

function player(attributes) {
    const video = make("video", { playsinline: true, ...attributes });
    video.muted = true;
    return video;
}

/** Show the controls of a video under the pointer: they cover what is seen. */
function controlled(video) {
    video.addEventListener("pointerenter", () => { video.controls = true; });
    video.addEventListener("pointerleave", () => { video.controls = false; });
    return video;
}

// ---------------------------------------------------------------- cards

const cards = new Map();  // by the identity of a video: its card, and what it was made of
const chosen = new Set();
let wanted = [], count = STEP;

const near = new IntersectionObserver(entries => {
    for (const { target, isIntersecting } of entries) {
        const frame = target.firstElementChild, old = frame.firstElementChild;
        if (isIntersecting && !old) frame.append(controlled(shown(target.row, { loop: true, preload: "metadata" })));
        else if (!isIntersecting && old && (old.tagName !== "VIDEO" || old.paused)) old.remove();
    }
}, { rootMargin: "300px" });

function card(row) {
    const made = JSON.stringify(row), before = cards.get(row.id);
    if (before?.made === made) return before.element;
    before?.element.remove();
    const choose = make("input", { type: "checkbox", onchange: event => pick(row.id, event.target.checked) });
    choose.checked = chosen.has(row.id);
    const file = row.file.split("/").pop();
    const element = make("article", { class: "card", "aria-label": titleOf(row) },
        make("div", { class: "frame" }),
        make("div", { class: "about" },
            make("h2", {}, nameOf(row), make("small", {}, titleOf(row).slice(nameOf(row).length))),
            make("p", {}, factsOf(row)),
            make("p", {}, known(row.address) ? make("a", { href: row.address, title: row.file }, file) : file),
            make("div", { class: "row" },
                make("label", {}, choose, "Choose"),
                whyNot(row) ? null : make("button", { type: "button", onclick: () => stage.open([row]) }, "Open"))));
    if (known(row.height) && known(row.width)) find(".frame", element).style.aspectRatio = `${row.width} / ${row.height}`;
    element.row = row;
    cards.set(row.id, { made, element });
    near.observe(element);
    return element;
}

function pick(id, on) {
    if (on) chosen.add(id); else chosen.delete(id);
    const size = chosen.size;
    find("#play").disabled = find("#clear").disabled = !size;
    find("#play").textContent = size ? `Play the chosen (${size})` : "Play the chosen";
}

/** Have exactly these elements in a place, and move none that stays: what is moved loses the focus. */
function fill(place, elements) {
    const stay = new Set(elements);
    for (const old of [...place.children]) if (!stay.has(old)) old.remove();
    let at = place.firstElementChild;
    for (const element of elements) {
        if (element === at) at = at.nextElementSibling;
        else place.insertBefore(element, at);
    }
}

// ---------------------------------------------------------------- which, and in which order

const form = find("#filters");
const UNKNOWN = "-";
const valueOf = (row, name) => known(row[name]) ? String(row[name]) : UNKNOWN;

function offer(name) {
    const select = form.elements[name], before = select.value;
    const values = [...new Set(data.videos.map(row => valueOf(row, name)))];
    values.sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
    const made = JSON.stringify(values);
    if (select.made === made) return;
    select.made = made;
    // "=" tells a value from "all", which is empty
    select.replaceChildren(make("option", { value: "" }, "all"), ...values.map(value => make("option", { value: `=${value}` }, value)));
    select.value = values.some(value => `=${value}` === before) ? before : "";
    select.closest("label").hidden = values.length < 2;
}

function compare(name, sign) {
    // as `vidrec list`: what is not known comes last, and NaN is smaller than every number
    const rank = value => Number.isNaN(value) ? -Infinity : value;
    return (a, b) => {
        if (!known(a[name]) || !known(b[name])) return known(b[name]) - known(a[name]);
        const [one, two] = [rank(number(a[name])), rank(number(b[name]))];
        return one === two ? 0 : (one < two ? -sign : sign);
    };
}

function matching() {
    const { least, most, words, sort } = form.elements;
    const exact = ["run", "tag", "env", "ended"].filter(name => form.elements[name].value);
    const text = words.value.trim().toLowerCase();
    const found = data.videos.filter(row =>
        exact.every(name => `=${valueOf(row, name)}` === form.elements[name].value)
        && (least.value === "" || (known(row.return) && number(row.return) >= Number(least.value)))
        && (most.value === "" || (known(row.return) && number(row.return) <= Number(most.value)))
        && (!text || `${titleOf(row)} ${row.file}`.toLowerCase().includes(text)));
    const by = sort.value;
    return by ? found.sort(compare(by.replace(/^-/, ""), by.startsWith("-") ? -1 : 1)) : found;
}

function render() {
    wanted = matching();
    fill(find("#cards"), wanted.slice(0, count).map(card));
    const [all, some] = [data.videos.length, wanted.length];
    find("#count").textContent = (all === some ? "" : `${some} of `) + `${all} ${all === 1 ? "video" : "videos"}`;
    curves.mark();
}

function filter() {
    count = STEP;
    render();
}

const below = new IntersectionObserver(([entry]) => {
    if (!entry.isIntersecting || count >= wanted.length) return;
    count += STEP;
    fill(find("#cards"), wanted.slice(0, count).map(card));
    below.unobserve(find("#more"));
    below.observe(find("#more"));  // it may still be in view, which is no change
}, { rootMargin: "1500px" });
below.observe(find("#more"));

form.addEventListener("input", filter);
form.addEventListener("submit", event => event.preventDefault());
form.addEventListener("reset", () => setTimeout(filter));
find("#play").addEventListener("click", () => {
    const rows = new Map(data.videos.map(row => [row.id, row]));
    stage.open([...chosen].map(id => rows.get(id)));
});
find("#clear").addEventListener("click", () => {
    for (const id of [...chosen]) {
        pick(id, false);
        if (cards.has(id)) find("input", cards.get(id).element).checked = false;
    }
});

// ---------------------------------------------------------------- several at once, by one clock

const stage = {
    section: find("#stage"), screens: [], position: 0, rate: 1, fps: 30, playing: false, before: 0,

    open(rows) {
        this.close();
        for (const row of rows) {
            const element = shown(row, { preload: "auto" });
            const words = [titleOf(row), factsOf(row), row.kind === "image" && "an image, which plays by itself"];
            find("#screens").append(make("figure", {},
                make("div", { class: "frame" }, element), make("figcaption", {}, words.filter(Boolean).join(" · "))));
            if (element.tagName !== "VIDEO") continue;
            const screen = { element, fps: Number(row.fps) || 30, seconds: Number(row.seconds) || 0 };
            element.addEventListener("loadedmetadata", () => { screen.seconds = element.duration; this.measure(); });
            this.screens.push(screen);
        }
        find("#controls").hidden = false;
        this.section.hidden = false;
        this.section.focus();
        this.section.scrollIntoView({ block: "nearest" });
        this.measure();
        this.seek(0);
        this.play(this.screens.length > 0);
    },

    close() {
        this.play(false);
        for (const { element } of this.screens) element.removeAttribute("src");
        this.screens = [];
        find("#screens").replaceChildren();
        this.section.hidden = true;
    },

    /** Count in frames of the video that has the most of them in a second. */
    measure() {
        this.fps = Math.max(1, ...this.screens.map(screen => screen.fps));
        this.seconds = Math.max(1 / this.fps, ...this.screens.map(screen => screen.seconds));
        this.slider.max = Math.round(this.seconds * this.fps) - 1;
        this.tell();
    },

    get frame() { return Math.min(Math.floor(this.position * this.fps + 1e-6), Number(this.slider.max)); },

    /** Show this frame: the middle of the time for which it is shown, so that no rounding leads to another. */
    show(frame) {
        this.play(false);
        this.seek((Math.max(0, Math.min(frame, Number(this.slider.max))) + 0.5) / this.fps);
    },

    seek(position) {
        this.position = position;
        for (const screen of this.screens) {
            screen.element.currentTime = this.target(screen);
            // a busy Chromium that pauses and seeks at once may keep the old frame in sight, unless somebody asks for the new one
            screen.element.requestVideoFrameCallback?.(() => {});
        }
        this.tell();
    },

    /** Return where one of them is to be: on its last frame if it is over. */
    target(screen) { return Math.max(0, Math.min(this.position, screen.seconds - 0.5 / screen.fps)); },

    over(screen) { return this.position >= screen.seconds - 0.5 / screen.fps; },

    play(on) {
        this.playing = on;
        for (const { element } of this.screens) if (!on) element.pause();
        find("[data-do=toggle]").textContent = on ? "Pause" : "Play";
        if (!on) return;
        this.before = performance.now();
        requestAnimationFrame(now => this.tick(now));
    },

    tick(now) {
        if (!this.playing) return;
        const passed = (now - this.before) / 1000 * this.rate;
        this.before = now;
        const ready = this.screens.every(({ element }) => element.error || (element.readyState > 2 && !element.seeking));
        if (ready) this.position += passed;
        if (this.position >= this.seconds) this.seek(0);
        for (const screen of this.screens) {
            const { element } = screen;
            if (!ready || this.over(screen)) { element.pause(); continue; }
            const ahead = element.currentTime - this.position;
            if (Math.abs(ahead) > Math.max(0.25, this.rate / 4)) element.currentTime = this.target(screen);
            // what is a little ahead plays a little slower
            element.playbackRate = Math.max(0.07, Math.min(16, this.rate * (1 - Math.max(-0.5, Math.min(0.5, 4 * ahead / this.rate)))));
            if (element.paused) element.play().catch(() => {});
        }
        this.tell();
        requestAnimationFrame(next => this.tick(next));
    },

    tell() {
        this.slider.value = this.frame;
        const text = `frame ${this.frame} of ${Number(this.slider.max) + 1}, ${this.position.toFixed(2)} s`;
        this.slider.setAttribute("aria-valuetext", text);
        find("output", this.section).textContent = text;
    },

    slider: find("#stage [name=frame]"),

    act: {
        toggle() { stage.play(!stage.playing); },
        back() { stage.show(stage.frame - 1); },
        on() { stage.show(stage.frame + 1); },
        close() { stage.close(); },
    },
};

stage.slider.addEventListener("input", () => stage.show(Number(stage.slider.value)));
find("#stage [name=rate]").addEventListener("change", event => { stage.rate = Number(event.target.value); });
for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", stage.act[button.dataset.do]);
stage.section.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || /SELECT|INPUT/.test(event.target.tagName) && event.key !== "Escape") return;
    const todo = { " ": "toggle", ArrowLeft: "back", ArrowRight: "on", Escape: "close" }[event.key];
    if (!todo || (event.key === " " && event.target.tagName === "BUTTON")) return;
    event.preventDefault();
    stage.act[todo]();
});

// ---------------------------------------------------------------- curves, with the videos on them

const curves = {
    charts: new Map(),  // by the name of the scalar

    show() {
        const names = new Map();
        for (const curve of data.curves) names.set(curve.name, [...(names.get(curve.name) ?? []), curve]);
        find("#curves").hidden = !names.size;
        for (const [name, chart] of this.charts) if (!names.has(name)) chart.figure.remove(), this.charts.delete(name);
        for (const [name, series] of names) {
            const made = JSON.stringify(series), before = this.charts.get(name);
            if (before?.made === made) continue;
            const figure = before?.figure ?? make("figure", {}, make("figcaption", {}, name), make("div"));
            const chart = { name, made, series, figure, plot: before?.plot };
            figure.chart = chart;
            this.charts.set(name, chart);
            if (before?.plot) this.draw(chart);
            else if (!before) this.near.observe(figure);
        }
        fill(find("#curves > div"), [...this.charts.values()].map(chart => chart.figure));
    },

    near: new IntersectionObserver(entries => {
        for (const { target, isIntersecting } of entries) if (isIntersecting && !target.chart.plot) curves.draw(target.chart);
    }, { rootMargin: "300px" }),

    draw(chart) {
        chart.plot?.destroy();
        const place = chart.figure.lastElementChild, style = getComputedStyle(document.documentElement);
        const axis = { stroke: style.getPropertyValue("--quiet"), grid: { stroke: style.getPropertyValue("--line"), width: 1 } };
        const lines = chart.series.map((curve, at) => ({
            label: curve.run, stroke: COLOURS[at % COLOURS.length], width: 1.5, spanGaps: true, points: { show: curve.steps.length < 2 },
        }));
        const table = uPlot.join(chart.series.map(curve => [curve.steps, curve.values]));
        chart.plot = new uPlot({
            width: place.clientWidth || 320, height: 200, scales: { x: { time: false } },
            axes: [axis, { ...axis, size: 60 }], series: [{ label: "step" }, ...lines], cursor: { drag: { x: true, y: false } },
            hooks: { draw: [() => this.put(chart)] },
        }, table, place);
        this.markOne(chart);
    },

    mark() { for (const chart of this.charts.values()) if (chart.plot) this.markOne(chart); },

    /** Mark the videos that are shown, each on the curve of its run. */
    markOne(chart) {
        for (const { button } of chart.points ?? []) button.remove();
        const of = new Map(chart.series.map(curve => [curve.run, curve]));
        const rows = wanted.filter(row => known(row.step) && of.get(row.run)?.steps.length && !whyNot(row));
        const every = Math.ceil(rows.length / MAX_MARKED);
        chart.points = rows.filter((row, at) => at % every === 0).map(row => {
            const { steps, values } = of.get(row.run);
            let at = steps.findIndex(step => step >= row.step);
            if (at < 0) at = steps.length - 1;
            if (at > 0 && row.step - steps[at - 1] < steps[at] - row.step) at -= 1;
            const label = `Play ${titleOf(row)}`;
            const button = make("button", { type: "button", class: "point", title: label, "aria-label": label, onclick: () => stage.open([row]) });
            return { button, step: row.step, value: values[at] };
        }).filter(point => known(point.value));
        this.put(chart);
    },

    put(chart) {
        const { plot } = chart;
        for (const { button, step, value } of plot && chart.points || []) {
            const [left, top] = [plot.valToPos(step, "x"), plot.valToPos(value, "y")];
            button.hidden = !(left >= 0 && left <= plot.over.clientWidth && top >= 0 && top <= plot.over.clientHeight);
            button.style.left = `${left}px`;
            button.style.top = `${top}px`;
            if (!button.parentElement) plot.over.append(button);
        }
    },
};

const redraw = () => { for (const chart of curves.charts.values()) if (chart.plot) curves.draw(chart); };
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
let resized;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(redraw, 200); });

// ---------------------------------------------------------------- clips that are being recorded

/** A clip that grows: its file is fetched as it grows, and played at its end. */
class Live {
    constructor(clip) {
        this.clip = clip;
        this.read = 0;
        this.frame = make("div", { class: "frame" });
        if (known(clip.height) && known(clip.width)) this.frame.style.aspectRatio = `${clip.width} / ${clip.height}`;
        const about = make("div", { class: "about" }, make("h2", {}, titleOf(clip)), make("p", {}, clip.run));
        this.element = make("article", { class: "card", "aria-label": `${titleOf(clip)}, being recorded` }, this.frame, about);
        this.plays = Boolean(clip.type && globalThis.MediaSource);
        if (!this.plays) this.frame.append(make("p", {}, "It can be seen when it is finished."));
        this.frame.append(make("span", { class: "badge" }, "recording"));
    }

    /** Fetch what the file has more than before; one at a time. */
    async grow(size) {
        if (this.busy || size <= this.read || !this.plays) return;
        this.busy = true;
        try {
            const answer = await fetch(`clip/${this.clip.id}?from=${this.read}`);
            if (!answer.ok) return;
            const bytes = new Uint8Array(await answer.arrayBuffer());
            if (!this.buffer && !await this.begin(bytes)) return;
            this.read += bytes.length;
            await this.append(bytes);
        } catch (error) {
            this.plays = false;
            this.frame.prepend(make("p", {}, `It can be seen when it is finished (${error.message}).`));
        } finally {
            this.busy = false;
        }
    }

    /** Open the player as soon as the codec is known, by the first bytes of the file; return whether. */
    async begin(bytes) {
        let codec = "vp9";
        if (this.clip.type === "video/mp4") {
            const text = new TextDecoder("latin1").decode(bytes.subarray(0, 65536)), at = text.indexOf("avcC");
            if (at < 0 && bytes.length > 65536) throw new Error("it is no H.264");
            if (at < 0) return false;
            codec = `avc1.${[...bytes.subarray(at + 5, at + 8)].map(byte => byte.toString(16).padStart(2, "0")).join("")}`;
        }
        const source = new MediaSource();
        this.video = controlled(player({ "aria-label": `${titleOf(this.clip)}, live` }));
        this.video.src = URL.createObjectURL(source);
        this.frame.prepend(this.video);
        await new Promise(done => source.addEventListener("sourceopen", done, { once: true }));
        this.buffer = source.addSourceBuffer(`${this.clip.type}; codecs="${codec}"`);
        return true;
    }

    async append(bytes) {
        const { buffer, video } = this;
        const done = () => new Promise(resolve => buffer.addEventListener("updateend", resolve, { once: true }));
        buffer.appendBuffer(bytes);
        await done();
        if (!buffer.buffered.length) return;
        const end = buffer.buffered.end(buffer.buffered.length - 1);
        if (end > 60) {
            buffer.remove(0, end - 30);
            await done();
        }
        // the next piece comes in half a second: what is left of this one by then is played a little faster
        const behind = end - video.currentTime;
        if (!this.begun || (!video.paused && behind > 1.5)) video.currentTime = Math.max(buffer.buffered.start(0), end - 0.5);
        else video.playbackRate = behind > 0.55 ? 0.5 + behind : 1;
        if (!this.begun) video.play().catch(() => {});
        this.begun = true;
    }
}

const live = {
    players: new Map(),

    show() {
        const ids = new Set(data.clips.map(clip => clip.id));
        for (const id of [...this.players.keys()]) if (!ids.has(id)) this.players.delete(id);
        for (const clip of data.clips) if (!this.players.has(clip.id)) this.players.set(clip.id, new Live(clip));
        find("#live").hidden = !this.players.size;
        fill(find("#live .cards"), [...this.players.values()].map(player => player.element));
    },
};

// ---------------------------------------------------------------- what there is, now and later

function take(fresh) {
    data = { clips: [], notes: [], curves: [], videos: [], ...fresh };
    for (const name of ["run", "tag", "env", "ended"]) offer(name);
    trouble(data.notes.join("\n"));
    curves.show();
    live.show();
    const ids = new Set(data.videos.map(row => row.id));
    for (const id of [...cards.keys()]) if (!ids.has(id)) near.unobserve(cards.get(id).element), cards.delete(id), pick(id, false);
    render();
}

function trouble(text) {
    find("#trouble").textContent = text;
    find("#trouble").hidden = !text;
}

async function ask(version) {
    let pause = 1000;
    try {
        const news = await (await fetch("news")).json();
        if (news.version !== version) {
            const fresh = await (await fetch("data")).json();
            version = news.version;
            take(fresh);
        }
        if (find("#trouble").dataset.gone) trouble(data.notes.join("\n")), delete find("#trouble").dataset.gone;
        for (const [id, player] of live.players) player.grow(news.clips[id] ?? 0);
        if (live.players.size) pause = 100;
    } catch {
        trouble("vidrec watch does not answer: was it ended?");
        find("#trouble").dataset.gone = "yes";
    }
    setTimeout(() => ask(version), pause);
}

const first = JSON.parse(find("#data").textContent);
if (first.served) {
    form.elements.sort.value = "-time";
    ask(null);
} else {
    take(first);
}

})();
