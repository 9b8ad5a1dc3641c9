// Tables that sort and filter. The page is complete without this script.
"use strict";
for (const table of document.querySelectorAll("table.data")) {
  const bodies = [...table.tBodies];
  const rows = bodies.flatMap((body) => [...body.rows].map((row) => ({ row, body })));
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];

  const restore = () => {
    for (const { row, body } of rows) body.append(row);
    table.classList.remove("sorted");
  };
  const sortKey = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1; // absent values last
    return a.localeCompare(b, "en", { numeric: true });
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { none: "descending", descending: "ascending", ascending: "none" };
      const order = next[head.getAttribute("aria-sort") || "none"];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      restore();
      if (order === "none") return;
      head.setAttribute("aria-sort", order);
      table.classList.add("sorted");
      const sign = order === "ascending" ? 1 : -1;
      const keyed = rows.map(({ row }) => ({ row, key: sortKey(row, column) }));
      const mixed = keyed.some(({ key }) => typeof key === "number");
      keyed.sort((a, b) => {
        const known = typeof a.key === typeof b.key;
        return (mixed && !known ? 1 : sign) * compare(a.key, b.key);
      });
      for (const { row } of keyed) bodies[0].append(row);
    });
  });

  if (rows.length < 9) continue;
  const label = document.createElement("label");
  const input = document.createElement("input");
  const count = document.createElement("output");
  label.className = "filter";
  input.type = "search";
  input.placeholder = "Filter rows";
  input.setAttribute("aria-label", `Filter rows of ${table.caption.textContent}`);
  label.append(input, count);
  table.parentElement.before(label);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { row } of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
  });
}
