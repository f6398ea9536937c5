// Puts the page together: one token is looked at, and text, tree, mask and figures follow it.

const WORDS = { h: "context", t: "reasoning", r_in: "response as later turns see it", r_out: "response as generated" };
const NAMES = { loss_weights: "weight", logprobs: "logprob", advantages: "advantage" };
const MOST_VIEWS = 60; // entries of the list of views, on either side of the one that is shown

const WHOLE_LINE = new Set(["text", "kind", "call", "sample"]); // facts about a token that need the width

const $ = (id) => document.getElementById(id);

function make(tag, { role, ...properties }, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  if (role) element.setAttribute("role", role);
  element.append(...children.filter((child) => child !== ""));
  return element;
}

/** Size a canvas for the screen, and give a pen that draws in pixels of the page. */
function penOn(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return pen;
}

const probe = document.body.appendChild(make("i", { hidden: true }));
function colour(name) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

const about = readJson("about");
const tokens = new Tokens(about.tokens);
const state = { number: 0, row: null, view: -1, signal: "kind", cursor: -1 };

const told = { look: (token) => look(token), choose: (token) => choose(token) };
const text = new Text($("text"), tokens, { ...told, scrolled: (from, to) => inSight(from, to) });
const tree = new Tree($("tree"), tokens, { choose: (segment) => choose(state.row.start[segment]) });
const mask = new Mask($("mask"), told);

function inSight(from, to) {
  mask.sight = [from, to];
  if (mask.row === state.row) mask.light(mask.q ?? -1);
}

/** Look at a token for as long as the pointer is on it; -1 looks at the chosen one again. */
function look(token) {
  const q = token >= 0 ? token : state.cursor;
  if (q === text.q) return;
  text.light(q);
  tree.light(q, { follow: token < 0 });
  mask.light(q);
  describe(q);
}

/** Choose a token until another is: it stays looked at, and is where the keyboard goes on. */
function choose(token, how = {}) {
  state.cursor = token;
  if (token >= 0 && text.order[lastAtMost(text.order, token)] !== token) return showView(-1);
  text.goTo(token, how);
  text.light(token);
  tree.light(token, { follow: true });
  mask.light(token);
  describe(token);
  remember();
}

function describe(token) {
  const { row } = state, list = $("token");
  if (token < 0) {
    list.replaceChildren(make("dt", { textContent: "row" }), make("dd", { textContent: rowSaid(), className: "whole" }),
      make("dt", { textContent: "token" }), make("dd", { textContent: "point at one, or move to one with the arrow keys", className: "whole" }));
    return;
  }
  const segment = row.segmentOf(token), entry = row.ids[token], written = tokens.text(entry);
  const message = row.message[segment], sees = row.seen(token).reduce((sum, [from, to]) => sum + to - from, 0);
  const id = tokens.ids[entry], label = row.trained[token] ? row.labels.get(token) ?? id : -100;
  const facts = {
    text: written === null ? "unknown" : `“${escaped(written)}”${wholeCharacter(token)}`,
    kind: `${KINDS[row.kind[segment]]}, ${WORDS[KINDS[row.kind[segment]]]}`,
    id: `${id}`, position: row.position[token],
    label: label === -100 ? "−100" : `${label}`, trained: row.trained[token] ? "yes" : "no",
    message: message < 0 ? "none" : message, segment,
    token, sees: counted(sees, "token"),
    "seen until": row.until[segment],
  };
  for (const [name, values] of Object.entries(row.columns)) facts[NAMES[name] ?? name.replace("preference_labels", "rejected")] = Number.isNaN(values[token]) ? "none" : `${values[token]}`;
  const call = row.data.calls[row.call[segment]];
  if (call) facts.call = `${call.id}${["", ", chosen", ", rejected"][call.role]}${call.reward === null ? "" : `, reward ${call.reward}`}`;
  facts.sample = row.samples.id[row.sampleOf(token)];
  list.replaceChildren(...Object.entries(facts).flatMap(([name, fact]) => [
    make("dt", { textContent: name, className: WHOLE_LINE.has(name) ? "opens" : "" }), make("dd", { textContent: typeof fact === "number" ? number(fact) : escaped(fact), className: WHOLE_LINE.has(name) ? "whole" : "" })]));
}

/** Say what characters the bytes of a token are part of, with the tokens beside it. */
function wholeCharacter(token) {
  const { row } = state, text = (at) => (at >= 0 && at < row.length ? tokens.text(row.ids[at]) ?? "" : "");
  if (!BYTE.test(text(token))) return "";
  let from = token, to = token + 1;
  while (token - from < 3 && row.sees(token, from - 1) && BYTE.test(text(from - 1).slice(-1))) from--;
  while (to - token < 4 && row.sees(to, token) && BYTE.test(text(to).slice(0, 1))) to++;
  const bytes = [];
  for (let at = from; at < to; at++)
    for (const c of text(at)) {
      const code = c.codePointAt(0);
      bytes.push(...(BYTE.test(c) ? [code - 0xdc00] : new TextEncoder().encode(c)));
    }
  return `, in “${escaped(new TextDecoder().decode(Uint8Array.from(bytes)))}”`;
}

function rowSaid() {
  const { row } = state, { data } = row, trained = row.trained.reduce((sum, each) => sum + each, 0);
  const left = data.left_out ? `; ${counted(data.left_out, "more token")} left out here` : "";
  return `${data.row} of ${data.shard}: ${counted(row.length, "token")}, ${number(trained)} trained, ${counted(row.samples.start.length, "sample")}${left}`;
}

function showRow(number_) {
  Object.assign(state, { number: number_, row: new Row(readJson(`row-${number_}`)), cursor: -1 });
  $("row").value = number_;
  $("row-before").disabled = number_ === 0;
  $("row-after").disabled = number_ === about.rows - 1;
  offerSignals();
  mask.q = -1;
  mask.show(state.row);
  tree.show(state.row);
  showView(-1);
}

/** Show the whole row (-1), or what the model saw and wrote for one message. */
function showView(view) {
  const { row } = state, { views } = row.data;
  state.view = view;
  let order = Int32Array.from({ length: row.length }, (_, token) => token);
  if (view >= 0) order = order.filter((token) => row.sees(views[view].last, token));
  text.q = -1;
  text.show(row, order, view < 0 ? -1 : views[view].prompt, painter());
  const from = Math.max(0, view - MOST_VIEWS), few = views.slice(from, from + 2 * MOST_VIEWS);
  const several = row.samples.start.length > 1;
  const name = ({ message, sample, call }) => `as the model saw ${call < 0 ? `message ${message}` : `call ${escaped(row.data.calls[call].id)}`}${several ? `, sample ${sample}` : ""}`;
  $("view").replaceChildren(make("option", { value: -1, label: "the whole row" }), ...few.map((each, i) =>
    make("option", { value: from + i, label: name(each) })));
  $("view").value = view;
  $("view-before").disabled = view < 0;
  $("view-after").disabled = view === views.length - 1;
  choose(view < 0 ? state.cursor : order[views[view].prompt] ?? views[view].last, { middle: true });
}

/** The signals that this row has, as name and how a token's element is painted. */
function signals() {
  const { row } = state;
  const kind = (token) => KINDS[row.kind[row.segmentOf(token)]];
  const found = {
    trained: { paint: (span, token) => row.trained[token] && span.classList.add("on") },
    kind: { paint: (span, token) => span.classList.add(`in-${kind(token)}`) },
    message: {
      paint: (span, token) => {
        const message = row.message[row.segmentOf(token)];
        if (message >= 0) span.classList.add(`hue-${message % 6}`);
      },
    },
    position: scale(row.position),
  };
  if (row.data.calls.length)
    found.call = {
      paint: (span, token) => {
        const call = row.call[row.segmentOf(token)];
        if (call >= 0) span.classList.add(`hue-${call % 6}`);
      },
    };
  for (const [name, values] of Object.entries(row.columns))
    if (name !== "preference_labels") found[NAMES[name] ?? name] = scale(values, row.target);
  return found;
}

/**
 * Paint by a number: from the lowest to the highest, or away from 0 where there are both signs.
 * A column says something only of tokens that are trained, or answers that are rejected.
 */
function scale(values, which) {
  let low = Infinity, high = -Infinity;
  values.forEach((value, token) => {
    if (Number.isNaN(value) || (which && !which[token])) return;
    [low, high] = [Math.min(low, value), Math.max(high, value)];
  });
  const both = low < 0 && high > 0, most = both ? Math.max(-low, high) : high - low || 1;
  return {
    low, high, both,
    paint: (span, token) => {
      if (Number.isNaN(values[token]) || (which && !which[token])) return;
      span.classList.add(both && values[token] < 0 ? "less" : "more");
      span.style.setProperty("--share", both ? Math.abs(values[token]) / most : (values[token] - low) / most);
    },
  };
}

const painter = () => signals()[state.signal].paint;

function offerSignals() {
  const found = Object.keys(signals());
  if (!found.includes(state.signal)) state.signal = "kind";
  $("signals").replaceChildren($("signals").firstElementChild, ...found.map((name) => make("label", {},
    make("input", { type: "radio", name: "signal", value: name, checked: name === state.signal }), make("span", { textContent: name }))));
  explain();
}

function explain() {
  const { signal } = state, { low, high, both } = signals()[signal];
  const key = (classes, words) => make("span", { className: `key ${classes}`, textContent: words });
  const shade = (name, share, words) => {
    const element = key(name, words);
    element.style.setProperty("--share", share);
    return element;
  };
  const trained = make("span", { className: "key trained", textContent: "trained" });
  const keys = signal === "kind" ? KINDS.map((kind) => key(`in-${kind}`, `${kind} ${WORDS[kind]}`))
    : signal === "trained" ? [key("on", "trained: its label is its id"), key("", "not trained: its label is −100")]
    : signal === "message" || signal === "call" ? [...Array(6).keys()].map((i) => key(`hue-${i}`, `${i}, ${i + 6} …`))
    : low > high ? [key("", "no value")]
    : both ? [shade("less", 1, number(low)), key("", "0"), shade("more", 1, number(high))]
    : [shade("more", 0, number(low)), shade("more", 1, number(high))];
  const rejected = state.row.columns.preference_labels ? [key("rejected", "rejected answer")] : [];
  $("legend").replaceChildren(...keys, ...(signal === "trained" ? [] : [trained]), ...rejected);
}

function remember() {
  const { number: row, view, signal, cursor } = state;
  history.replaceState(null, "", `#row=${row}&view=${view}&signal=${signal}&token=${cursor}`);
}

function recall() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const whole = (name, most) => Math.min(Math.max(parseInt(asked.get(name) ?? "-1", 10) || 0, -1), most);
  state.signal = asked.get("signal") ?? "kind";
  showRow(Math.max(0, whole("row", about.rows - 1)));
  const [view, token] = [whole("view", state.row.data.views.length - 1), whole("token", state.row.length - 1)];
  if (view >= 0) showView(view);
  if (token >= 0) choose(token);
}

function redraw() {
  mask.draw();
  tree.draw();
}

function start() {
  $("name").textContent = about.name;
  const { manifest } = about.summary;
  $("about-it").textContent = `${manifest.layout} rows, format ${manifest.format_version}, written by reasonpack ${manifest.library_version}`;
  $("source").textContent = about.source;
  showSummary($("summary"), about.summary);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const setTheme = (on) => {
    document.documentElement.dataset.theme = on ? "dark" : "light";
    $("theme").setAttribute("aria-pressed", on);
    if (state.row) redraw();
  };
  setTheme(dark.matches);
  dark.addEventListener("change", () => setTheme(dark.matches));
  $("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme !== "dark"));
  if (!about.rows) return;
  $("rows").hidden = false;
  $("row").replaceChildren(...Array.from({ length: about.rows }, (_, i) => {
    const { row, length, samples } = readJson(`row-${i}`);
    const more = samples.id.length > 1 ? ` and ${samples.id.length - 1} more` : "";
    return make("option", { value: i, label: `${row}: ${escaped(samples.id[0].slice(0, 40))}${more}, ${counted(length, "token")}` });
  }));
  $("row").addEventListener("change", () => (showRow(Number($("row").value)), remember()));
  $("row-before").addEventListener("click", () => (showRow(state.number - 1), remember()));
  $("row-after").addEventListener("click", () => (showRow(state.number + 1), remember()));
  $("view").addEventListener("change", () => (showView(Number($("view").value)), remember()));
  $("view-before").addEventListener("click", () => (showView(state.view - 1), remember()));
  $("view-after").addEventListener("click", () => (showView(state.view + 1), remember()));
  $("signals").addEventListener("change", ({ target }) => {
    state.signal = target.value;
    explain();
    text.repaint(painter());
    remember();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("select, input") || event.altKey || event.metaKey || event.ctrlKey) return;
    if (event.key === "Escape") choose(-1);
    if (event.key === "v" && state.cursor >= 0) toggleView();
  });
  recall();
}

/** Show what the model saw at the chosen token's message, or the whole row again. */
function toggleView() {
  const { row, cursor } = state, token = cursor;
  if (state.view >= 0) return showView(-1);
  const segment = row.segmentOf(token), sample = row.sampleOf(token);
  const [message, call] = [row.message[segment], row.call[segment]];
  const view = row.data.views.findIndex((each) => each.sample === sample && (call < 0 ? each.message === message : each.call === call));
  if (view >= 0) showView(view);
}

start();
