// The first part of the page: what the dataset holds, what it saves, how it is distributed, what
// was rejected. Every figure is the manifest's or that of `stats`.

const number = (value) => value.toLocaleString("en-US");

function showSummary(section, { manifest, lines, rejects, costs, advice, distributions }) {
  const { counts } = manifest;
  section.append(bars(manifest));
  section.append(make("div", { className: "pair" },
    make("dl", { className: "lines" }, ...lines.flatMap(([name, text]) => [
      make("dt", { textContent: name }), make("dd", { textContent: text })])),
    costs ? costTable(costs, advice) : ""));
  if (distributions)
    section.append(make("h2", { textContent: "Distributions" }),
      make("div", { className: "charts" }, ...Object.values(distributions).map(chart)));
  if (rejects.length) section.append(...rejected(rejects));
}

/** The tokens of the rows by kind, over those that N-pass needs. */
function bars({ counts, layout }) {
  const most = Math.max(counts.tokens, counts.npass_tokens, 1);
  const bar = (name, tokens, parts) => make("div", { className: "bar" },
    make("span", { textContent: name }),
    make("div", {}, ...parts.map(([kind, part]) => {
      const piece = make("i", { className: `in-${kind}`, title: `${kind} ${number(part)}` });
      piece.style.width = `${(100 * part) / most}%`;
      return piece;
    })),
    make("b", { textContent: number(tokens) }));
  const kinds = KINDS.filter((kind) => counts.tokens_by_kind[kind]);
  return make("figure", { className: "bars" },
    bar(`${layout} tokens`, counts.tokens, kinds.map((kind) => [kind, counts.tokens_by_kind[kind]])),
    layout === "npass" ? "" : bar("npass tokens", counts.npass_tokens, [["npass", counts.npass_tokens]]),
    make("figcaption", {}, ...kinds.map((kind) => make("span", { className: `key in-${kind}`, textContent: `${kind} ${WORDS[kind]}` }))));
}

function costTable(costs, advice) {
  const head = ["What a layer computes", "tokens", "pairs", "128×128 blocks"];
  const row = (cells, tag) => make("tr", {}, ...cells.map((cell) => make(tag, { textContent: typeof cell === "number" ? number(cell) : cell })));
  return make("div", {},
    make("div", { className: "wide", tabIndex: 0 }, make("table", {}, make("thead", {}, row(head, "th")), make("tbody", {}, ...costs.map((each) => row(each, "td"))))),
    make("p", { textContent: advice }));
}

/** One distribution as columns; its numbers as a table when it is opened. */
function chart({ description, words, histogram }) {
  const share = histogram.length > 0 && histogram[0].below - histogram[0].from < 1;
  const label = ({ from, below }) => (share ? `${Math.round(100 * from)}% – ${Math.round(100 * below)}%`
    : below - from === 1 ? number(from) : `${number(from)} – ${number(below - 1)}`);
  const figure = make("figure", {}, make("h3", { textContent: description }));
  if (histogram.filter((each) => each.count).length > 1) {
    const most = Math.max(...histogram.map((each) => each.count));
    const columns = histogram.map((each) => {
      const column = make("i", { title: `${label(each)}: ${number(each.count)}` });
      column.style.height = `${Math.max((100 * each.count) / most, each.count ? 2 : 0)}%`;
      return column;
    });
    figure.append(make("div", { className: "columns", role: "img", ariaLabel: `${description}: ${words}` }, ...columns),
      make("div", { className: "axis" }, make("span", { textContent: label(histogram[0]) }), make("span", { textContent: label(histogram[histogram.length - 1]) })));
    const details = make("details", {}, make("summary", { textContent: words }));
    details.addEventListener("toggle", () => details.open && details.children.length === 1 && details.append(
      make("table", {}, ...histogram.map((each) => make("tr", {}, make("td", { textContent: label(each) }), make("td", { textContent: number(each.count) }))))));
    figure.append(details);
  } else figure.append(make("p", { textContent: words }));
  return figure;
}

function rejected(rejects) {
  return [make("h2", { textContent: "Not packed" }),
    make("dl", { className: "rejects" }, ...rejects.flatMap(([reason, count, words, example, kind]) => [
      make("dt", {}, `${kind} `, make("b", { textContent: number(count) }), ` ${reason}`),
      make("dd", {}, words, example ? make("code", { textContent: example }) : "")]))];
}
