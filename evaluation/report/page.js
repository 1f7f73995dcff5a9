"use strict";
(() => {
  const perPage = 25;
  const element = (id) => document.getElementById(id);
  const form = element("filters");
  if (!form) return;
  const [task, metric, outcome, group, search] = ["task", "metric", "outcome", "group", "search"].map(element);
  const parsed = new Map();
  let page = 0;

  const data = () => {
    if (!parsed.has(task.value)) {
      const source = document.querySelector(`script[data-task="${CSS.escape(task.value)}"]`);
      parsed.set(task.value, JSON.parse(source.textContent));
    }
    return parsed.get(task.value);
  };
  const score = (answers) => answers?.scores[metric.value];
  // Positive if the model is better than the other on this item.
  const gain = (item) => {
    const [own, other] = [score(item.model), score(item.other)];
    if (own === undefined || other === undefined || Math.abs(own - other) < 1e-12) return 0;
    return (own > other) === data().metrics[metric.value] ? 1 : -1;
  };
  const texts = (item) => [item.id, item.group ?? "", item.prompt, item.target, ...item.model.answers, ...(item.other?.answers ?? [])];
  const kinds = {
    all: ["all items", () => true],
    lost: ["worse than the other model", (item) => gain(item) < 0],
    won: ["better than the other model", (item) => gain(item) > 0],
    failed: ["score 0", (item) => score(item.model) === 0],
    full: ["score 1", (item) => score(item.model) === 1],
    differs: ["different answers", (item) => item.other && item.model.answers.join("\n") !== item.other.answers.join("\n")],
    skipped: ["not scored", (item) => item.skipped !== null || score(item.model) === undefined],
    contaminated: ["in the training data", (item) => item.contaminated],
  };

  const fill = (select, options) => {
    const before = select.value;
    select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
    if (options.some(([value]) => value === before)) select.value = before;
    select.parentElement.hidden = options.length < 2;
  };
  const fillMetrics = () => fill(metric, Object.keys(data().metrics).map((name) => [name, name.replaceAll("_", " ")]));
  const fillOthers = () => {
    const items = data().items;
    const present = Object.entries(kinds).filter(([name, [, test]]) => name === "all" || items.some(test));
    fill(outcome, present.map(([name, [text, test]]) => [name, `${text} (${items.filter(test).length})`]));
    const groups = [...new Set(items.map((item) => item.group).filter((name) => name !== null))].sort();
    fill(group, groups.length ? [["", "all"], ...groups.map((name) => [`=${name}`, name])] : [["", "all"]]);
  };
  // Not scored first, then worse than the other model, then the lowest scores.
  const ranked = (items) => {
    const sign = data().metrics[metric.value] === false ? -1 : 1;
    const rank = (item) => (item.skipped !== null ? 0 : gain(item) < 0 ? 1 : 2);
    const value = (item) => sign * (score(item.model) ?? 0);
    return [...items].sort((a, b) => rank(a) - rank(b) || value(a) - value(b));
  };
  const selected = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const test = kinds[outcome.value][1];
    return ranked(data().items.filter((item) => {
      if (!test(item) || (group.value && `=${item.group}` !== group.value)) return false;
      const all = words.length ? texts(item).join("\n").toLowerCase() : "";
      return words.every((word) => all.includes(word));
    }));
  };

  const make = (tag, className, ...children) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children);
    return node;
  };
  const marked = (className, text) => {
    const node = make("div", className);
    const words = search.value.split(/\s+/).filter(Boolean).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    if (!words.length) {
      node.textContent = text;
      return node;
    }
    // Pieces at odd places are matches, because the pattern is one group.
    text.split(new RegExp(`(${words.join("|")})`, "gi")).forEach((piece, at) => {
      node.append(at % 2 ? make("mark", "", piece) : piece);
    });
    return node;
  };
  const number = (value) => (Number.isInteger(value) ? String(value) : value.toPrecision(4));
  const answersOf = (title, answers, reason) => {
    const node = make("div", "answer", make("h4", "", title));
    node.append(...answers.answers.map((text) => marked("text", text === "" ? "(empty)" : text)));
    if (reason) node.append(make("p", "scores", `not scored: ${reason}`));
    const scores = Object.entries(answers.scores).map(([name, value]) => `${name.replaceAll("_", " ")} ${number(value)}`);
    if (scores.length) node.append(make("p", "scores", scores.join(" · ")));
    if (Object.keys(answers.detail).length) {
      node.append(make("details", "", make("summary", "", "Details"), make("pre", "text", JSON.stringify(answers.detail, null, 1))));
    }
    return node;
  };
  const show = (item) => {
    const kind = item.skipped !== null ? "skipped" : { "-1": "lost", 0: "", 1: "won" }[gain(item)];
    const heading = make("h3", "", item.id);
    if (item.group !== null) heading.append(make("span", "", item.group));
    if (item.tokens !== null) heading.append(make("span", "", `${item.tokens} prompt tokens`));
    if (item.contaminated) heading.append(make("span", "badge", "in the training data"));
    const node = make("article", `item ${kind}`, heading, marked("text prompt", item.prompt));
    if (item.target) node.append(make("h4", "", "Target"), marked("text target", item.target));
    const answers = make("div", item.other ? "answers two" : "answers", answersOf("Model", item.model, item.skipped));
    if (item.other) answers.append(answersOf("Other model", item.other, item.other.skipped));
    node.append(answers);
    return node;
  };
  const draw = () => {
    const found = selected();
    const pages = Math.max(1, Math.ceil(found.length / perPage));
    page = Math.min(page, pages - 1);
    element("items").replaceChildren(...found.slice(page * perPage, (page + 1) * perPage).map(show));
    const { items, leftOut } = data();
    const more = leftOut ? ` ${leftOut} more, with the best scores, are only in items/${task.value}.jsonl.` : "";
    element("count").textContent = `${found.length} of ${items.length} items, those that failed first.${more}`;
    element("pages").hidden = pages < 2;
    element("page").textContent = `Page ${page + 1} of ${pages}`;
    element("previous").disabled = page === 0;
    element("next").disabled = page === pages - 1;
  };
  const turn = (by) => {
    page += by;
    draw();
    element("count").scrollIntoView();
  };
  const restart = () => {
    page = 0;
    draw();
  };
  const changeTask = () => {
    fillMetrics();
    fillOthers();
    restart();
  };
  task.addEventListener("change", changeTask);
  metric.addEventListener("change", () => {
    fillOthers();
    restart();
  });
  [outcome, group].forEach((select) => select.addEventListener("change", restart));
  search.addEventListener("input", restart);
  form.addEventListener("submit", (event) => event.preventDefault());
  element("previous").addEventListener("click", () => turn(-1));
  element("next").addEventListener("click", () => turn(1));
  task.parentElement.hidden = task.options.length < 2;
  form.hidden = false;
  changeTask();
})();
