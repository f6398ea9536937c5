// The mask as a picture, drawn from the segments: a triangle and a rectangle each.
// Down goes the token that looks, right the token that is seen.

const EDGE = 6; // pixels beside the mask, for what is trained

class Mask {
  constructor(figure, told) {
    [this.base, this.over] = figure.querySelectorAll("canvas");
    this.caption = figure.querySelector("figcaption");
    this.told = told; // {look, choose}
    this.sight = [0, 0];
    const at = (event) => {
      const box = this.over.getBoundingClientRect();
      const cell = (pixel) => Math.floor(((pixel - EDGE) / (box.width - EDGE)) * this.row.length);
      const within = (token) => Math.min(Math.max(token, 0), this.row.length - 1);
      return [within(cell(event.clientY - box.top + EDGE)), within(cell(event.clientX - box.left))];
    };
    this.over.addEventListener("pointermove", (event) => {
      const [q, k] = at(event);
      told.look(q);
      this.say(`token ${q.toLocaleString("en-US")} ${this.row.sees(q, k) ? "sees" : "does not see"} token ${k.toLocaleString("en-US")}`);
    });
    this.over.addEventListener("pointerleave", () => (told.look(-1), this.say()));
    this.over.addEventListener("click", (event) => told.choose(at(event)[0]));
    new ResizeObserver(() => this.row && this.draw()).observe(figure);
  }

  say(text = "down: the token that looks · right: the token that it sees") {
    this.caption.textContent = text;
  }

  show(row) {
    this.row = row;
    this.say();
    this.draw();
    const pairs = Array.from({ length: row.segments }, (_, s) => {
      const size = row.end(s) - row.start[s];
      return (size * (2 * row.until[s] - row.start[s] - row.end(s) + 1)) / 2;
    }).reduce((sum, each) => sum + each, 0);
    const share = (200 * pairs) / (row.length * (row.length + 1));
    this.base.setAttribute("aria-label", `Mask: ${counted(pairs, "pair")} of tokens are visible, ${share.toFixed(0)} % of those of a causal mask`);
  }

  draw() {
    const { row } = this, size = this.base.clientWidth;
    const scale = (size - EDGE) / row.length;
    const pen = penOn(this.base, size, size - EDGE);
    pen.clearRect(0, 0, size, size);
    for (let kind = 0; kind < KINDS.length; kind++) {
      pen.beginPath();
      for (let s = 0; s < row.segments; s++) {
        if (row.kind[s] !== kind) continue;
        const from = row.start[s] * scale, to = row.end(s) * scale, until = row.until[s] * scale;
        pen.moveTo(EDGE + from, from);
        pen.lineTo(EDGE + to, to);
        pen.lineTo(EDGE + to, until);
        pen.lineTo(EDGE + from, until);
        pen.closePath();
      }
      pen.fillStyle = colour(`--${KINDS[kind]}`);
      pen.globalAlpha = 0.4;
      pen.fill();
    }
    pen.globalAlpha = 1;
    pen.strokeStyle = colour("--line");
    pen.strokeRect(EDGE + 0.5, 0.5, size - EDGE - 1, size - EDGE - 1);
    pen.fillStyle = colour("--ink");
    const { trained } = row.data;
    for (let i = 0; i < trained.length; i += 2)
      pen.fillRect(0, trained[i] * scale, EDGE / 2, Math.max(1, ((trained[i + 1] ?? row.length) - trained[i]) * scale));
    this.light(this.q ?? -1);
  }

  /** Draw what token q sees, and which part of the row is in sight. */
  light(q) {
    this.q = q;
    const { row } = this, size = this.base.clientWidth, scale = (size - EDGE) / row.length;
    const pen = penOn(this.over, size, size - EDGE);
    const thick = Math.max(2, scale);
    const [from, to] = this.sight;
    pen.strokeStyle = colour("--muted");
    pen.strokeRect(EDGE + from * scale, from * scale, Math.max(3, (to + 1 - from) * scale), Math.max(3, (to + 1 - from) * scale));
    if (q < 0) return;
    pen.fillStyle = colour("--accent");
    for (const [start, end] of row.seen(q))
      pen.fillRect(EDGE + start * scale, q * scale - (thick - scale) / 2, Math.max(1, (end - start) * scale), thick);
  }
}
