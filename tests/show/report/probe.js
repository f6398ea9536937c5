// What the tests ask of an opened page.

var all = (selector) => [...document.querySelectorAll(selector)];
var frame = () => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
var style = (element, pseudo) => getComputedStyle(element, pseudo);

/** Every node of the page, text included. */
function nodes() {
  const walker = document.createTreeWalker(document, NodeFilter.SHOW_ALL);
  let found = 1;
  while (walker.nextNode()) found++;
  return found;
}

/** What the page says of the token that is looked at. */
var facts = () =>
  Object.fromEntries(all("#token dt").map((dt) => [dt.textContent, dt.nextSibling.textContent]));

/** The tokens that are highlighted, wherever one scrolls to. */
async function lit() {
  const box = document.querySelector("#text");
  const found = new Set();
  for (let top = 0; top <= box.scrollHeight; top += box.clientHeight / 2) {
    box.scrollTop = top;
    await frame();
    for (const tok of all("#text.lit .tok.seen")) found.add(tok.token);
  }
  return [...found].sort((a, b) => a - b);
}

async function scrolled(share) {
  const box = document.querySelector("#text");
  const from = performance.now();
  box.scrollTop = share * box.scrollHeight;
  await frame();
  return performance.now() - from;
}

var drawn = () =>
  all("#text .tok")
    .map((tok) => (tok.dataset.lead ?? "") + tok.textContent + (tok.dataset.trail ?? ""))
    .join("");

var underlined = () =>
  all("#text .tok").every((tok) => {
    const line = parseFloat(style(tok).borderBottomWidth) === 2;
    return line === Boolean(state.row.trained[tok.token]);
  });

var grounds = () => all("#text .tok").map((tok) => style(tok).backgroundColor).join("|");

var charts = () =>
  all(".charts figure").map((figure) => [
    figure.querySelector("h3").textContent,
    [...figure.querySelectorAll(".columns i")].map((column) => column.title),
  ]);

/** Texts whose contrast is below that of WCAG AA, each with its ratio. */
function pale() {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const mixed = (colours) => {
    const key = colours.join();
    if (!known.has(key)) {
      for (const each of colours) {
        canvas.fillStyle = each;
        canvas.fillRect(0, 0, 1, 1);
      }
      known.set(key, luminance([...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)));
    }
    return known.get(key);
  };
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) =>
    0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ratio = (element, pseudo) => {
    const ground = [];
    for (let e = element; e; e = e.parentElement) ground.unshift(style(e).backgroundColor);
    const [a, b] = [mixed(ground), mixed([...ground, style(element, pseudo).color])];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const found = [];
  for (const element of all("body *")) {
    if (element.closest("script, noscript, [hidden], option, :disabled")) continue;
    const own = [...element.childNodes].some((each) => each.nodeType === 3 && each.data.trim());
    if (own) found.push([ratio(element, null), element.className, element.textContent.slice(0, 20)]);
    for (const [name, pseudo] of [["lead", "::before"], ["trail", "::after"], ["kind", "::before"]])
      if (element.dataset[name]) found.push([ratio(element, pseudo), name, element.dataset[name]]);
  }
  return found.filter(([each]) => each < 4.5);
}
