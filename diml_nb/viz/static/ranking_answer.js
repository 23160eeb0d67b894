/** All that a page shows of a query, computed in the page: the traits of `RankingView`. */

import { sum, withSign } from "./dom.js";
import {
  averagePrecision,
  dropQueryParts,
  findLists,
  gainOf,
  placesWon,
  queriesByGain,
} from "./gallery_lists.js";
import { opacityOf, PART_COLORS } from "./pair_answer.js";
import {
  gainCounts,
  gainWord,
  moveSentence,
  partNames,
  precisionText,
  ruleText,
} from "./ranking_text.js";
import { cellContributions } from "./solver_match.js";
import { partFace } from "./solver_parts.js";

/**
 * @import {Gallery} from "./gallery_data.js"
 * @import {GalleryRule, QueryLists, ScoredList} from "./gallery_lists.js"
 * @import {Candidate, Choice, Lists} from "./ranking.js"
 * @import {QueryCells, QueryPart} from "./ranking_parts.js"
 * @import {Reason, ReasonRow} from "./ranking_why.js"
 *
 * @typedef {object} RankingRequest The state of a `RetrievalExplorer` of the Python library.
 * @property {string} show Which queries can be chosen.
 * @property {number} query
 * @property {GalleryRule} rule
 * @property {Choice} choice
 *
 * @typedef {object} RankingAnswer
 * @property {Choice} choice As far as this query has it.
 * @property {Lists} lists
 * @property {Reason | null} reason
 * @property {QueryLists} found
 *
 * @typedef {object} Gains Of all queries under one rule.
 * @property {number[]} values Changes of the average precision; NaN without another of the class.
 * @property {GalleryRule} rule
 *
 * @typedef {object} GallerySolver
 * @property {(request: RankingRequest) => RankingAnswer} answer
 * @property {(rule: GalleryRule) => Generator<number>} rankAll Ranks one query more at each step.
 * @property {() => number[]} gains
 */

/* gallery answer */
/**
 * What answers requests about a gallery. The lists of the last query are kept.
 *
 * @param {Gallery} gallery
 * @param {number} shownCount how many candidates of a list are shown
 * @param {Gains} gains
 * @returns {GallerySolver}
 */
export function createGallerySolver(gallery, shownCount, gains) {
  let known = gains;
  /** @type {{key: string, found: QueryLists} | null} */
  let kept = null;
  const listsOf = (/** @type {RankingRequest} */ { query, rule }) => {
    const key = JSON.stringify([query, rule]);
    if (kept?.key !== key) kept = { key, found: findLists(gallery, query, rule) };
    return kept.found;
  };
  function* rankAll(/** @type {GalleryRule} */ rule) {
    const values = [];
    for (const q of gallery.images.keys()) {
      values.push(gainOf(gallery, q, rule));
      yield values.length;
    }
    known = { values, rule };
  }
  return {
    answer: (request) => answerQuery(gallery, shownCount, known, request, listsOf(request)),
    rankAll,
    gains: () => known.values,
  };
}

/**
 * @param {Gallery} gallery
 * @param {number} shownCount
 * @param {Gains} gains
 * @param {RankingRequest} request
 * @param {QueryLists} found
 * @returns {RankingAnswer}
 */
function answerQuery(gallery, shownCount, gains, request, found) {
  const choice = fittingChoice(request.choice, found);
  const shown = dropQueryParts(found, choice.dropped);
  const context = { gallery, gains, request, found, shown, choice, shownCount };
  return { choice, lists: describeLists(context), reason: describeReason(context), found };
}

/**
 * What the reader chose, as far as this query has it; the first candidate is chosen by default.
 *
 * @param {Choice} choice
 * @param {QueryLists} found
 * @returns {Choice}
 */
function fittingChoice({ first, second, dropped, by_cells }, { candidates, after, ...found }) {
  const has = (/** @type {number | null} */ n) => n !== null && candidates.includes(n);
  const count = found.hasParts ? found.byPart.contributions[0].length : 0;
  return {
    first: has(first) ? first : after[0].index,
    second: has(second) ? second : null,
    dropped: dropped.filter((k) => k < count),
    by_cells,
  };
}

/**
 * @typedef {object} AnswerContext
 * @property {Gallery} gallery
 * @property {Gains} gains
 * @property {RankingRequest} request
 * @property {QueryLists} found
 * @property {QueryLists} shown Without the dropped parts.
 * @property {Choice} choice
 * @property {number} shownCount
 */

/* lists of an answer */
/**
 * @param {AnswerContext} context
 * @returns {Lists}
 */
function describeLists(context) {
  const { gallery, request, found } = context;
  const { src, name } = gallery.images[request.query];
  return {
    query: { src, label: name },
    rows: listRows(context),
    parts: found.hasParts ? describeParts(found) : [],
    cells: found.hasParts ? queryCells(src, found) : null,
    note: partsNote(found),
    says: querySentences(context),
  };
}

/**
 * @param {AnswerContext} context
 * @returns {Lists["rows"]}
 */
function listRows({ gallery, request, found, shown, choice, shownCount }) {
  const items = (/** @type {ScoredList} */ list, /** @type {number[] | null} */ before) =>
    listItems(gallery, request.query, list, shownCount, before);
  const rows = [
    { title: "by cosine", items: items(found.before, null) },
    { title: "by cosine + S", items: items(found.after, found.candidates) },
  ];
  if (choice.dropped.length > 0) {
    const after = found.after.map(({ index }) => index);
    rows.push({ title: `without ${partNames(choice.dropped)}`, items: items(shown.after, after) });
  }
  return rows;
}

/**
 * @param {Gallery} gallery
 * @param {number} q
 * @param {ScoredList} list
 * @param {number} shownCount
 * @param {number[] | null} before the order of another list
 * @returns {Candidate[]}
 */
function listItems({ images }, q, list, shownCount, before) {
  const order = list.map(({ index }) => index);
  const moves = before ? placesWon(before, order) : null;
  return list.slice(0, shownCount).map(({ index, score }) => ({
    index,
    src: images[index].src,
    label: images[index].name,
    right: images[index].kind === images[q].kind,
    score,
    move: moves?.get(index) ?? null,
  }));
}

/**
 * @param {QueryLists} found
 * @returns {QueryPart[]}
 */
function describeParts({ byPart }) {
  const { contributions, label, strengths, grid } = byPart;
  return contributions[0].map((_, k) => {
    const face = partFace(label, strengths, grid, k);
    return {
      name: String(k + 1),
      color: partColor(k),
      face,
      adds: sum(contributions.map((adds) => adds[k])) / contributions.length,
    };
  });
}

/** @param {number} k */
function partColor(k) {
  return PART_COLORS[k % PART_COLORS.length];
}

/**
 * @param {string} src
 * @param {QueryLists} found
 * @returns {QueryCells}
 */
function queryCells(src, { byPart: { grid, label, strengths } }) {
  return { src, grid, part: label, opacity: opacityOf(strengths) };
}

/** @param {QueryLists} found */
function partsNote({ hasParts, candidates }) {
  return hasParts
    ? "Each score becomes the score less what the dropped parts add to it. Nothing is matched" +
        " again, so the sums stay exact."
    : "no structure: the flows of this query do not fall into parts that suit all" +
        ` ${candidates.length} candidates, so there is nothing to drop`;
}

/** @param {AnswerContext} context */
function querySentences(context) {
  const { gallery, gains, request, found } = context;
  const { query, rule, show } = request;
  const [before, after] = [found.before, found.after].map((list) =>
    averagePrecision(gallery, query, list),
  );
  const ranked = ruleText(gains.rule);
  const sentences = [
    dropSentence(context),
    `This query: ${gainWord(before, after)}, average precision at R` +
      ` ${precisionText(before)} before, ${precisionText(after)} after.`,
    `Of all ${gains.values.length} (${ranked}): ${gainCounts(gains.values)}.`,
  ];
  if (ruleText(rule) !== ranked) {
    sentences.push("To count under the present settings, press 'rank all again'.");
  }
  if (queriesByGain(gains.values, show).length === 0) {
    sentences.push(`No query is ${show}; all are shown.`);
  }
  return sentences.filter(Boolean).join(" ");
}

/**
 * What a query's list becomes without some of its parts; empty if none is dropped.
 *
 * @param {AnswerContext} context
 */
function dropSentence({ gallery, request, found, shown, choice }) {
  if (choice.dropped.length === 0) return "";
  const [whole, less] = [found.after, shown.after].map((list) =>
    precisionText(averagePrecision(gallery, request.query, list)),
  );
  const [before, after] = [found.after, shown.after].map((list) => list.map((x) => x.index));
  return (
    `Without ${partNames(choice.dropped)}: average precision at R ${less}, with all parts` +
    ` ${whole}. ${moveSentence(gallery.images, placesWon(before, after))}`
  );
}

/* reason of an answer */
/**
 * Why one candidate stands above another; `null` without a second one.
 *
 * @param {AnswerContext} context
 * @returns {Reason | null}
 */
function describeReason(context) {
  const { gallery, request, shown, choice } = context;
  const { first, second, dropped, by_cells } = choice;
  if (first === null || second === null || first === second) return null;
  const labels = [first, second].map((n) => gallery.images[n].name);
  const rows = reasonRows(shown, first, second);
  const total = rows[rows.length - 1].difference;
  const where = total >= 0 ? "above" : "below";
  const without = dropped.length > 0 ? `, without ${partNames(dropped)}` : "";
  return {
    caption: `Why ${labels[0]} stands ${where} ${labels[1]}${without}`,
    labels,
    rows,
    says: reasonSentence(rows, labels),
    pictures: reasonPictures(gallery, request.query, shown, [first, second]),
    has_parts: shown.hasParts,
    cells: by_cells || !shown.hasParts ? cellDifference(shown, first, second) : null,
  };
}

/**
 * What each term adds to the scores of two candidates; the last row is their sum.
 *
 * @param {QueryLists} shown
 * @param {number} first
 * @param {number} second
 * @returns {ReasonRow[]}
 */
function reasonRows({ byPart, candidates, matches, hasParts }, first, second) {
  const places = [candidates.indexOf(first), candidates.indexOf(second)];
  /** @type {(name: string, part: number | null, amountOf: (place: number) => number) => ReasonRow} */
  const row = (name, part, amountOf) => {
    const [x, y] = places.map(amountOf);
    return {
      name,
      part,
      color: part === null ? "" : partColor(part),
      first: x,
      second: y,
      difference: x - y,
    };
  };
  const rows = [row("whole images", null, (k) => matches[k].wholeCosine)];
  byPart.contributions[0].forEach((_, part) => {
    const amountOf = (/** @type {number} */ k) => byPart.contributions[k][part];
    rows.push(
      hasParts ? row(`part ${part + 1}`, part, amountOf) : row("all cells", null, amountOf),
    );
  });
  if (hasParts) rows.push(row("rest", null, (k) => byPart.rest[k]));
  const [x, y] = [sum(rows.map((r) => r.first)), sum(rows.map((r) => r.second))];
  return [...rows, { name: "sum", part: null, color: "", first: x, second: y, difference: x - y }];
}

/**
 * @param {ReasonRow[]} rows
 * @param {string[]} labels
 */
function reasonSentence(rows, labels) {
  const terms = rows.slice(0, -1).map((row) => `${row.name} ${withSign(row.difference)}`);
  const total = withSign(rows[rows.length - 1].difference);
  return `${labels[0]} less ${labels[1]}: score ${total} = ${terms.join(", ")}`;
}

/**
 * @param {Gallery} gallery
 * @param {number} query
 * @param {QueryLists} shown
 * @param {number[]} compared
 * @returns {QueryCells[]} the query and the two candidates
 */
function reasonPictures({ images }, query, shown, compared) {
  const { byPart, candidates } = shown;
  const pictures = compared.map((n) => {
    const k = candidates.indexOf(n);
    return {
      src: images[n].src,
      grid: byPart.candidateGrid,
      part: byPart.candidateLabel[k],
      opacity: opacityOf(byPart.candidateStrengths[k]),
    };
  });
  return [queryCells(images[query].src, shown), ...pictures];
}

/**
 * The difference of two scores, cell by cell of the query.
 *
 * @param {QueryLists} shown
 * @param {number} first
 * @param {number} second
 */
function cellDifference({ candidates, matches }, first, second) {
  const [x, y] = [first, second].map((n) => cellContributions(matches[candidates.indexOf(n)]));
  return x.map((value, n) => value - y[n]);
}
