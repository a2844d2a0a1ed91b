import { SporeletError } from "@sporelet/errors";
import { type Item, keptBy, lineageOf } from "./plan.ts";

const operation = "remove from the store";
/** Shorter beginnings of ids name nothing: they are more likely a mistake. */
const shortestBeginning = 4;

/**
 * The items that ids name: whole ids, digests without `sha256:`, or unique beginnings of four characters or
 * more, for the result of a build of its key too. Snapshots come in an order in which children go first.
 *
 * @throws SporeletError `not_found`, or `invalid_argument` for a beginning that several ids have.
 */
export function chooseItems<T extends Item>(items: readonly T[], ids: readonly string[]): T[] {
  const chosen = new Set<T>();
  for (const id of ids) for (const item of itemsWithId(items, id)) chosen.add(item);
  const { ancestorsOf } = lineageOf(items);
  return [...chosen].sort((a, b) => ancestorsOf(b).length - ancestorsOf(a).length);
}

function itemsWithId<T extends Item>(items: readonly T[], id: string): T[] {
  const exact = items.filter((item) => item.id === id || item.id === `sha256:${id}`);
  if (exact.length > 0) return exact;
  const begins = (item: T) =>
    [item.id, item.id.replace(/^sha256:/, ""), item.id.slice(item.id.indexOf("/") + 1)].some((text) =>
      text.startsWith(id),
    );
  const begun = id.replace(/^sha256:/, "").length < shortestBeginning ? [] : items.filter(begins);
  const [found] = begun;
  if (found === undefined) {
    throw new SporeletError({
      code: "not_found",
      operation,
      subject: JSON.stringify(id),
      reason: "nothing has an id that begins so",
      hint: "`sporectl cache ls` lists what there is; give at least four characters of an id",
    });
  }
  if (begun.some((item) => item.id !== found.id)) {
    throw new SporeletError({
      code: "invalid_argument",
      operation,
      subject: JSON.stringify(id),
      reason: `${begun.length} ids begin so: ${begun.map((item) => item.id).join(", ")}`,
      hint: "give more characters",
    });
  }
  return begun;
}

/**
 * That nothing needs what was chosen. Their own names do not count: they go with them.
 *
 * @throws SporeletError `failed_precondition` that says what needs it.
 */
export function requireDiscardable<T extends Item>(items: readonly T[], chosen: readonly T[]): void {
  const machine = chosen.find(({ kind }) => kind === "machine");
  if (machine !== undefined) {
    throw new SporeletError({
      code: "failed_precondition",
      operation,
      subject: machine.id,
      reason: "it is a machine",
      hint: `sporectl rm ${machine.id}`,
    });
  }
  const stripped = new Map(items.map((item) => [chosen.includes(item) ? { ...item, tags: [] } : item, item]));
  const kept = keptBy([...stripped.keys()]);
  for (const [item, reasons] of kept) {
    const original = stripped.get(item);
    if (original === undefined || !chosen.includes(original)) continue;
    throw new SporeletError({
      code: "failed_precondition",
      operation,
      subject: original.id,
      reason: `it is needed by ${enumerate(reasons)}`,
      hint: reasons.some((reason) => reason.startsWith("child "))
        ? "remove the children in the same call, or first"
        : "what needs it has to go first",
    });
  }
}

/** "a, b and 3 more" */
export function enumerate(words: readonly string[]): string {
  const shown = words.slice(0, 5).join(", ");
  return words.length > 5 ? `${shown} and ${words.length - 5} more` : shown;
}
