import { randomInt } from "node:crypto";
import { SporeletError } from "@sporelet/errors";

// Short, easy to tell apart on the telephone, and harmless in any pair.
const adjectives =
  "amber bold brave brisk calm clear clever cosy crisp dapper deft eager early fair fleet fond fresh gentle glad golden grand green happy hardy jolly keen kind lively lucid lucky mellow merry mild neat nimble noble plucky polite proud quick quiet rapid ready rosy sharp shiny silent smart snug solid spry steady sunny swift tidy tough trim vivid warm wise witty young zesty".split(
    " ",
  );
const nouns =
  "acorn alder aspen aster badger beech birch bramble cedar clover comet condor crane daisy dune elm ember falcon fern finch fjord fox gecko heron hazel iris ivy juniper kestrel lark laurel lichen lily linden lotus lynx maple marten meadow moss newt oak olive orchid osprey otter owl pebble pine plover poppy puffin raven reed robin rowan sage sorrel sparrow spruce stork swan thistle tulip walnut willow wren yarrow".split(
    " ",
  );

/** What names of machines look like: they become hostnames (RFC 1123 labels). */
const namePattern = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** @throws SporeletError `invalid_argument` when `name` cannot be a machine's. */
function checkName(name: string): void {
  if (namePattern.test(name)) return;
  throw new SporeletError({
    code: "invalid_argument",
    operation: "name a machine",
    subject: JSON.stringify(name),
    reason:
      "a name has 1 to 63 lower-case letters, digits and hyphens, and begins and ends with a letter or digit",
  });
}

/**
 * A name such as `brisk-otter` that is not taken; a number follows once chance finds no free pair.
 * @param random an integer from 0 up to, not including, its argument
 */
function generateName(
  taken: (name: string) => boolean,
  random: (below: number) => number = randomInt,
): string {
  for (let attempt = 0; ; attempt++) {
    const pair = `${adjectives[random(adjectives.length)]}-${nouns[random(nouns.length)]}`;
    const name = attempt < 8 ? pair : `${pair}-${attempt - 6}`;
    if (!taken(name)) return name;
  }
}

/** Names for the clones of one call: `name`, or `name-1` … `name-N` for several; generated when absent. */
export function cloneNames(name: string, count: number, taken: (name: string) => boolean): string[] {
  if (name !== "") checkName(name);
  const names = new Set<string>();
  for (let index = 1; index <= count; index++) {
    const isTaken = (candidate: string) => taken(candidate) || names.has(candidate);
    const wanted = name === "" ? generateName(isTaken) : count === 1 ? name : `${name}-${index}`;
    checkName(wanted);
    if (isTaken(wanted)) {
      throw new SporeletError({
        code: "already_exists",
        operation: "name a machine",
        subject: wanted,
        reason: "another machine has this name",
        hint: `sporectl rm ${wanted} removes it; or leave the name out to have one made up`,
      });
    }
    names.add(wanted);
  }
  return [...names];
}
