// A token's text → what is drawn for it: everything invisible gets a sign, and nothing steers.

const INVISIBLE = /[\p{C}\p{Z}]/u;
const BYTE = /[\udc80-\udcff]/u; // a byte that is no whole character
const MARK = /^\p{M}/u;
const WIDE = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f000}-\u{1faff}\u{20000}-\u{3fffd}]/u;
const SIGNS = { " ": "·", "\n": "↵", "\t": "→", "\r": "\\r" };

/** Draw one character that has no shape. */
function sign(character) {
  if (SIGNS[character]) return SIGNS[character];
  const code = character.codePointAt(0), hex = code.toString(16);
  if (BYTE.test(character)) return `‹${(code - 0xdc00).toString(16).toUpperCase()}›`;
  if (code < 0x100) return `\\x${hex.padStart(2, "0")}`;
  return code < 0x10000 ? `\\u${hex.padStart(4, "0")}` : `\\u{${hex}}`;
}

/** Escape a text for a place of one line. */
const escaped = (text) => [...text].map((c) => (INVISIBLE.test(c) && c !== " " ? sign(c) : c)).join("");

/**
 * Cut a text behind its line breaks; each chunk has what is invisible at its start and end apart.
 * `cells` is its width in characters of the font, `broken` whether a line ends behind it.
 */
function chunksOf(text) {
  if (text === "") return [{ lead: "∅", core: "", trail: "", cells: 1, broken: false }];
  return text.match(/[^\n]*\n+|[^\n]+$/g).map((chunk) => {
    const characters = [...chunk];
    let first = 0, last = characters.length;
    while (first < last && INVISIBLE.test(characters[first])) first++;
    while (last > first && INVISIBLE.test(characters[last - 1])) last--;
    const drawn = characters.map((c) => (INVISIBLE.test(c) ? sign(c) : c));
    const core = drawn.slice(first, last).join("");
    return {
      lead: drawn.slice(0, first).join(""),
      core: MARK.test(core) ? `◌${core}` : core,
      trail: drawn.slice(last).join(""),
      cells: drawn.reduce((sum, c) => sum + (WIDE.test(c) ? 2 : c.length > 2 ? c.length : 1), 0),
      broken: chunk.endsWith("\n"),
    };
  });
}

/** The distinct tokens of the page: their ids, their texts, and the chunks that are drawn. */
class Tokens {
  constructor({ ids, texts }) {
    this.ids = ids;
    this.texts = texts;
    this.drawn = new Array(ids.length);
  }

  text(entry) {
    return this.texts && this.texts[entry] !== null ? this.texts[entry] : null;
  }

  chunks(entry) {
    const text = this.text(entry);
    return (this.drawn[entry] ??= text === null
      ? [{ lead: "", core: `${this.ids[entry]}`, trail: " ", cells: `${this.ids[entry]}`.length + 1, broken: false }]
      : chunksOf(text));
  }
}
