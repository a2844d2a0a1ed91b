import { displayWidth } from "./style.ts";

export interface Column<Row> {
  title: string;
  /** Numbers stand right. Default: left. */
  align?: "left" | "right";
  cell: (row: Row) => string;
}

/**
 * Lays rows out in aligned columns with a line of titles above, columns two spaces apart, no trailing
 * spaces. A column whose cells are all empty is left out.
 * @returns lines, the titles first
 */
export function table<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  title = (text: string) => text,
): string[] {
  const cells = rows.map((row) => columns.map((column) => column.cell(row)));
  const shown = columns
    .map((column, index) => ({ column, index }))
    .filter(({ index }) => rows.length === 0 || cells.some((row) => row[index] !== ""));
  const line = (texts: string[], styled: (text: string) => string) => {
    const parts = shown.map(({ column }, i) => {
      const text = texts[i] ?? "";
      const gap = " ".repeat(Math.max(0, (widths[i] ?? 0) - displayWidth(text)));
      return column.align === "right" ? gap + styled(text) : styled(text) + gap;
    });
    return parts.join("  ").trimEnd();
  };
  const titles = shown.map(({ column }) => column.title);
  const widths = shown.map(({ index }, i) =>
    Math.max(displayWidth(titles[i] ?? ""), ...cells.map((row) => displayWidth(row[index] ?? ""))),
  );
  const plain = (text: string) => text;
  return [
    line(titles, title),
    ...cells.map((row) =>
      line(
        shown.map(({ index }) => row[index] ?? ""),
        plain,
      ),
    ),
  ];
}

/** Lays out `key  value` pairs, keys aligned; pairs without a value are left out. */
export function pairs(
  entries: readonly (readonly [string, string])[],
  key = (text: string) => text,
): string[] {
  const shown = entries.filter(([, value]) => value !== "");
  const width = Math.max(0, ...shown.map(([name]) => displayWidth(name)));
  return shown.map(([name, value]) => {
    const [first = "", ...rest] = value.split("\n");
    const indent = " ".repeat(width + 2);
    return [
      key(name) + " ".repeat(width - displayWidth(name) + 2) + first,
      ...rest.map((line) => indent + line),
    ].join("\n");
  });
}
