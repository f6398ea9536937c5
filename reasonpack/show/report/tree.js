// The segments of a row as a tree, one a line: branches lie in lanes, the path of a token is lit.

const BRANCH = 28; // pixels of a line, as in the style
const LANE = 14;
const PREVIEW = 28; // characters

class Tree {
  constructor(element, tokens, told) {
    this.element = element;
    this.sheet = element.querySelector(".sheet");
    this.window = element.querySelector(".window");
    this.canvas = element.querySelector("canvas");
    this.tokens = tokens;
    this.told = told; // {choose}
    this.chosen = -1;
    element.addEventListener("scroll", () => this.draw());
    element.addEventListener("keydown", (event) => this.key(event));
    this.window.addEventListener("click", ({ target }) => {
      const item = target.closest("[role=option]");
      if (item) told.choose(item.segment);
    });
    new ResizeObserver(() => this.row && this.draw()).observe(element);
  }

  show(row) {
    Object.assign(this, { row, q: -1, chosen: -1 });
    this.sheet.style.height = `${row.segments * BRANCH}px`;
    this.element.scrollTop = 0;
    this.draw();
  }

  /** Light the path of token q, and scroll to its segment if `follow`. */
  light(q, { follow = false } = {}) {
    this.q = q;
    this.chosen = q < 0 ? -1 : this.row.segmentOf(q);
    if (follow && q >= 0) {
      const top = this.chosen * BRANCH, { scrollTop, clientHeight } = this.element;
      if (top < scrollTop || top + BRANCH > scrollTop + clientHeight)
        this.element.scrollTop = top - clientHeight / 2;
    }
    this.draw();
  }

  onPath(segment) {
    return this.q >= this.row.start[segment] && this.q < this.row.until[segment];
  }

  draw() {
    const { scrollTop, clientHeight } = this.element;
    const from = Math.max(0, Math.floor(scrollTop / BRANCH));
    const to = Math.min(this.row.segments, Math.ceil((scrollTop + clientHeight) / BRANCH) + 1);
    this.window.style.top = `${from * BRANCH}px`;
    this.window.replaceChildren(...Array.from({ length: to - from }, (_, i) => this.item(from + i)));
    if (this.chosen >= from && this.chosen < to) this.element.setAttribute("aria-activedescendant", "branch");
    else this.element.removeAttribute("aria-activedescendant");
    this.drawLanes(from, to);
  }

  item(segment) {
    const { row } = this, kind = KINDS[row.kind[segment]], message = row.message[segment];
    const trained = this.trainedIn(segment), length = row.end(segment) - row.start[segment];
    const item = make("div", { className: `branch in-${kind}`, role: "option", segment },
      make("b", { textContent: kind + (message < 0 ? "" : ` ${message}`), className: trained ? "trained" : "" }),
      make("span", { textContent: this.preview(segment) }),
      make("i", { textContent: length.toLocaleString("en-US") }));
    item.title = `${counted(length, "token")}, ${trained === length ? "all" : trained.toLocaleString("en-US")} trained`;
    item.style.setProperty("--lane", this.depth(segment));
    item.classList.toggle("on", this.onPath(segment));
    item.setAttribute("aria-selected", segment === this.chosen);
    if (segment === this.chosen) item.id = "branch";
    return item;
  }

  depth(segment) {
    return Math.min(this.row.lane[segment], STEPS);
  }

  trainedIn(segment) {
    let sum = 0;
    for (let token = this.row.start[segment]; token < this.row.end(segment); token++) sum += this.row.trained[token];
    return sum;
  }

  preview(segment) {
    let text = "";
    for (let token = this.row.start[segment]; token < this.row.end(segment) && text.length <= PREVIEW; token++)
      text += this.tokens.text(this.row.ids[token]) ?? `${this.tokens.ids[this.row.ids[token]]} `;
    return escaped([...text].slice(0, PREVIEW).join(""));
  }

  /** Draw the edges that cross the window, and a dot for each segment in it. */
  drawLanes(from, to) {
    const { row } = this, width = 2 * LANE + STEPS * LANE;
    const pen = penOn(this.canvas, width, this.element.clientHeight);
    const y = (segment) => segment * BRANCH + BRANCH / 2 - this.element.scrollTop;
    const x = (segment) => LANE + this.depth(segment) * LANE;
    const edges = (lit) => {
      pen.beginPath();
      for (let s = 1; s < row.segments; s++) {
        const parent = row.parent[s];
        if (parent < 0 || parent >= to || s < from || lit !== this.onPath(s)) continue;
        pen.moveTo(x(parent), y(parent));
        if (x(s) === x(parent)) pen.lineTo(x(s), y(s));
        else {
          pen.lineTo(x(parent), y(s) - BRANCH);
          pen.bezierCurveTo(x(parent), y(s) - BRANCH / 3, x(s), y(s) - (BRANCH * 2) / 3, x(s), y(s));
        }
      }
      pen.strokeStyle = colour(lit ? "--accent" : "--line");
      pen.lineWidth = lit ? 2 : 1.5;
      pen.stroke();
    };
    edges(false);
    edges(true);
    for (let s = from; s < to; s++) {
      pen.beginPath();
      pen.arc(x(s), y(s), s === this.chosen ? 5 : 3.5, 0, 2 * Math.PI);
      pen.fillStyle = colour(`--${KINDS[row.kind[s]]}`);
      pen.fill();
      if (s === this.chosen) {
        pen.strokeStyle = colour("--accent");
        pen.lineWidth = 2;
        pen.stroke();
      }
    }
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -Infinity, End: Infinity }[event.key];
    if (!step || event.altKey || event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    this.told.choose(Math.min(Math.max(this.chosen + step, 0), this.row.segments - 1));
  }
}
