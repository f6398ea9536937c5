// A row, or a view in it, as tokens in lines. Only the lines in sight are elements.

const LINE = 24; // pixels, as in the style
const MOST_IN_LINE = 28; // tokens, so that few elements are in sight whatever the text is
const AHEAD = 2; // lines above and below
const STEPS = 8; // lanes that are indented
const TEXT = 0, SAMPLE = 1, WRITTEN = 2;

class Text {
  constructor(element, tokens, told) {
    this.element = element;
    this.sheet = element.querySelector(".sheet");
    this.window = element.querySelector(".window");
    this.tokens = tokens;
    this.told = told; // {look, choose, scrolled}
    this.drawnFrom = this.drawnTo = -1;
    element.addEventListener("scroll", () => this.draw());
    this.window.addEventListener("pointerover", ({ target }) => told.look(target.token ?? -1));
    element.addEventListener("pointerleave", () => told.look(-1));
    this.window.addEventListener("click", ({ target }) => target.token >= 0 && told.choose(target.token));
    element.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.row && this.layOut()).observe(element);
  }

  /** Show a row: the tokens in `order`, of which those from number `written` on were generated. */
  show(row, order, written, paint) {
    Object.assign(this, { row, order, written, paint, columns: 0 });
    this.cursor = -1;
    this.element.scrollTop = 0;
    this.layOut();
  }

  /** Break the tokens into lines of the element's width, before a space where there is one. */
  layOut() {
    const columns = Math.max(16, Math.floor((this.element.clientWidth - this.margin()) / this.cell()));
    if (columns === this.columns) return this.draw();
    this.columns = columns;
    this.lines = { at: [], chunk: [], type: [] };
    const { row, order } = this;
    const borders = new Set(row.samples.start.length > 1 ? row.samples.start : []);
    let used = Infinity, count = 0, gap = null, segment = -1, width = columns;
    const start = (at, chunk, type) => {
      this.lines.at.push(at);
      this.lines.chunk.push(chunk);
      this.lines.type.push(type);
      [used, count, gap] = [0, 0, null];
    };
    order.forEach((token, at) => {
      const own = row.segmentOf(token);
      if (borders.has(token)) start(at, 0, SAMPLE);
      if (at === this.written) start(at, 0, WRITTEN);
      if (own !== segment || at === this.written) {
        width = columns - 2 * Math.min(row.lane[own], STEPS);
        used = Infinity;
      }
      segment = own;
      this.tokens.chunks(row.ids[token]).forEach(({ lead, cells, broken }, number) => {
        if ((used + cells > width && used > 0) || count >= MOST_IN_LINE) {
          const back = !lead && used < Infinity ? gap : null; // what is behind the gap moves along
          const moved = back ? [used - back.used, count - back.count] : [0, 0];
          start(back ? back.at : at, back ? back.number : number, TEXT);
          [used, count] = moved;
        }
        if (lead && used > 0) gap = { at, number, used, count };
        used = broken ? Infinity : used + cells;
        count++;
      });
    });
    this.sheet.style.height = `${this.lines.at.length * LINE}px`;
    this.drawnFrom = -1;
    this.draw();
  }

  cell() {
    const probe = make("span", { className: "tok", textContent: "0".repeat(50) });
    const line = make("div", { className: "line" }, probe);
    this.window.append(line);
    const width = probe.getBoundingClientRect().width / 50;
    line.remove();
    return width || 8;
  }

  margin() {
    return parseFloat(getComputedStyle(this.element).getPropertyValue("--gutter")) + 28;
  }

  /** Make the elements of the lines that are in sight. */
  draw() {
    const { scrollTop, clientHeight } = this.element;
    const from = Math.max(0, Math.floor(scrollTop / LINE) - AHEAD);
    const to = Math.min(this.lines.at.length, Math.ceil((scrollTop + clientHeight) / LINE) + AHEAD);
    if (from === this.drawnFrom && to === this.drawnTo) return;
    [this.drawnFrom, this.drawnTo] = [from, to];
    this.window.style.top = `${from * LINE}px`;
    this.window.replaceChildren(...Array.from({ length: to - from }, (_, i) => this.line(from + i)));
    this.light();
    const sight = [Math.floor(scrollTop / LINE), Math.ceil((scrollTop + clientHeight) / LINE) - 1];
    this.told.scrolled(...sight.map((line) => this.order[this.lines.at[Math.min(line, this.lines.at.length - 1)]] ?? 0));
  }

  line(number) {
    const { at, chunk, type } = this.lines, { row, order } = this;
    const token = order[at[number]];
    if (type[number] === SAMPLE)
      return make("div", { className: "line between", textContent: `sample ${escaped(row.samples.id[row.sampleOf(token)])}` });
    if (type[number] === WRITTEN)
      return make("div", { className: "line between", textContent: "the model wrote from here on" });
    const segment = row.segmentOf(token), message = row.message[segment];
    const line = make("div", { className: `line in-${KINDS[row.kind[segment]]}`, role: "presentation" });
    line.style.setProperty("--lane", Math.min(row.lane[segment], STEPS));
    const opens = chunk[number] === 0 && (at[number] === 0 || row.segmentOf(order[at[number] - 1]) !== segment);
    if (opens) line.dataset.kind = KINDS[row.kind[segment]] + (message < 0 ? "" : ` ${message}`);
    const last = number + 1 < at.length ? [at[number + 1], chunk[number + 1]] : [order.length, 0];
    for (let a = at[number], c = chunk[number]; a < last[0] || (a === last[0] && c < last[1]); a++, c = 0) {
      const chunks = this.tokens.chunks(row.ids[order[a]]);
      for (; c < chunks.length && (a < last[0] || c < last[1]); c++) line.append(this.token(order[a], chunks[c]));
    }
    return line;
  }

  token(token, { lead, core, trail }) {
    const span = make("span", { className: "tok", textContent: core, role: "option", token });
    if (lead) span.dataset.lead = lead;
    if (trail) span.dataset.trail = trail;
    if (this.row.trained[token]) span.classList.add("trained");
    if (this.row.columns.preference_labels?.[token] >= 0) span.classList.add("rejected");
    this.paint(span, token);
    return span;
  }

  repaint(paint) {
    this.paint = paint;
    this.drawnFrom = -1;
    this.draw();
  }

  /** Mark what token q sees among what is drawn; -1 is none. */
  light(q = this.q) {
    this.q = q;
    this.element.classList.toggle("lit", q >= 0);
    for (const span of this.window.querySelectorAll(".tok")) {
      span.classList.toggle("seen", q >= 0 && this.row.sees(q, span.token));
      span.classList.toggle("self", span.token === q);
      if (span.token === this.cursor) span.id = "cursor";
      else span.removeAttribute("id");
      span.setAttribute("aria-selected", span.token === this.cursor);
    }
    if (this.cursor >= 0) this.element.setAttribute("aria-activedescendant", "cursor");
    else this.element.removeAttribute("aria-activedescendant");
  }

  lineOf(token) {
    let line = lastAtMost(this.lines.at, lastAtMost(this.order, token));
    while (line > 0 && this.lines.chunk[line] > 0 && this.lines.at[line - 1] === this.lines.at[line]) line--;
    return line;
  }

  /** Move the cursor to a token, and scroll as little as shows it; to the middle if it was far. */
  goTo(token, { middle = false } = {}) {
    this.cursor = token;
    if (token >= 0) {
      const { scrollTop, clientHeight } = this.element, top = this.lineOf(token) * LINE;
      const far = top < scrollTop - clientHeight || top > scrollTop + 2 * clientHeight;
      if (middle || far) this.element.scrollTop = top - clientHeight / 2;
      else if (top < scrollTop + LINE) this.element.scrollTop = top - LINE;
      else if (top + 2 * LINE > scrollTop + clientHeight) this.element.scrollTop = top + 2 * LINE - clientHeight;
      this.draw();
    }
    this.light();
  }

  key(event) {
    if (event.altKey || event.metaKey || event.ctrlKey) return;
    const { order, row } = this, last = order.length - 1;
    const at = this.cursor < 0 ? -1 : lastAtMost(order, this.cursor);
    const page = Math.max(1, Math.floor(this.element.clientHeight / LINE) - 2);
    const move = {
      ArrowRight: () => at + 1,
      ArrowLeft: () => at - 1,
      ArrowDown: () => this.vertically(at, 1),
      ArrowUp: () => this.vertically(at, -1),
      PageDown: () => this.vertically(at, page),
      PageUp: () => this.vertically(at, -page),
      Home: () => 0,
      End: () => last,
      "]": () => order.findIndex((token, i) => i > at && row.segmentOf(token) !== row.segmentOf(order[Math.max(at, 0)])),
      "[": () => lastAtMost(order, row.start[row.segmentOf(order[Math.max(at - 1, 0)])]),
    }[event.key];
    if (!move) return;
    event.preventDefault();
    const to = move();
    this.told.choose(order[Math.min(Math.max(to < 0 && event.key === "]" ? last : to, 0), last)]);
  }

  vertically(at, lines) {
    if (at < 0) return this.lines.at[Math.floor(this.element.scrollTop / LINE)];
    const line = this.lineOf(this.order[at]), within = at - this.lines.at[line];
    let to = Math.min(Math.max(line + lines, 0), this.lines.at.length - 1);
    while (this.lines.type[to] !== TEXT && to + Math.sign(lines) >= 0 && to < this.lines.at.length - 1) to += Math.sign(lines);
    const next = to + 1 < this.lines.at.length ? this.lines.at[to + 1] : this.order.length;
    return Math.min(this.lines.at[to] + within, Math.max(next - 1, this.lines.at[to]));
  }
}
