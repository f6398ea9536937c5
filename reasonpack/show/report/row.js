"use strict";
// A row of the page's JSON → arrays by token and by segment, the tree, and what a token sees.
// A token q sees a token k exactly if k <= q < until[segment of k]; nothing here is T × T.

const KINDS = ["h", "t", "r_in", "r_out"];

const readJson = (id) => JSON.parse(document.getElementById(id).textContent);

/** Write runs out: `values[i]` from token `starts[i]` on, going up by `step`. */
function unrolled([starts, values], length, step, into) {
  starts.forEach((start, i) => {
    const end = i + 1 < starts.length ? starts[i + 1] : length;
    const value = values[i] === null ? NaN : values[i];
    for (let token = start; token < end; token++) into[token] = value + step * (token - start);
  });
  return into;
}

class Row {
  constructor(data) {
    const { start, until, kind, message, call } = data.segments;
    this.data = data;
    this.length = data.ids.length;
    this.ids = Int32Array.from(data.ids);
    this.start = Int32Array.from(start);
    this.until = Int32Array.from(until);
    this.kind = kind;
    this.message = message;
    this.call = call;
    this.segments = start.length;
    this.samples = data.samples;
    this.position = unrolled(data.positions, this.length, 1, new Int32Array(this.length));
    this.trained = new Uint8Array(this.length);
    for (let i = 0; i < data.trained.length; i += 2)
      this.trained.fill(1, data.trained[i], data.trained[i + 1] ?? this.length);
    this.labels = new Map(data.labels[0].map((token, i) => [token, data.labels[1][i]]));
    this.columns = {};
    for (const [name, runs] of Object.entries(data.columns))
      this.columns[name] = unrolled(runs, this.length, 0, new Float64Array(this.length));
    this.target = this.trained.map((on, token) => on || this.columns.preference_labels?.[token] >= 0);
    this.plantTree();
  }

  /** Find parent and lane of each segment: its last child goes on in the lane, others beside it. */
  plantTree() {
    this.parent = new Int32Array(this.segments).fill(-1);
    this.lane = new Int32Array(this.segments);
    const last = new Int32Array(this.segments).fill(-1);
    const open = [];
    for (let s = 0; s < this.segments; s++) {
      while (open.length && this.until[open[open.length - 1]] <= this.start[s]) open.pop();
      if (open.length) last[(this.parent[s] = open[open.length - 1])] = s;
      open.push(s);
    }
    for (let s = 0; s < this.segments; s++) {
      const parent = this.parent[s];
      if (parent >= 0) this.lane[s] = this.lane[parent] + (last[parent] === s ? 0 : 1);
    }
  }

  end(segment) {
    return segment + 1 < this.segments ? this.start[segment + 1] : this.length;
  }

  segmentOf(token) {
    return lastAtMost(this.start, token);
  }

  sampleOf(token) {
    return lastAtMost(this.samples.start, token);
  }

  sees(q, k) {
    return k <= q && q < this.until[this.segmentOf(k)];
  }

  /** The tokens that q sees, as intervals [from, to) in order. */
  seen(q) {
    const found = [];
    for (let s = 0; s < this.segments && this.start[s] <= q; s++) {
      if (q >= this.until[s]) continue;
      const to = Math.min(this.end(s), q + 1);
      if (found.length && found[found.length - 1][1] === this.start[s]) found[found.length - 1][1] = to;
      else found.push([this.start[s], to]);
    }
    return found;
  }
}

/** The number of the last of some ascending values that is at most `value`; -1 if none is. */
function lastAtMost(values, value) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

const counted = (number, noun) => `${number.toLocaleString("en-US")} ${noun}${number === 1 ? "" : "s"}`;
