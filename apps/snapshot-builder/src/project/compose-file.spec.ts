import { SporeletError } from "@sporelet/errors";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseComposeFile } from "./compose-file.ts";
import { interpolate, parseEnvFile } from "./interpolate.ts";

const parse = (text: string, variables = {}, built: string[] = []) =>
  parseComposeFile(text, "compose.yaml", {
    variables: new Map(Object.entries(variables)),
    builtImages: new Set(built),
  });

function problem(text: string): SporeletError {
  try {
    parse(text);
  } catch (error) {
    if (error instanceof SporeletError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("a Compose file", () => {
  it("gives its services, images, published ports and files", () => {
    const file = parse(
      `name: shop
services:
  web:
    image: nginx:\${TAG:-1.25}
    ports: ["8080:80", "127.0.0.1:8443:443/tcp", "53:53/udp", "9000-9002:9000-9002", "80"]
    volumes: [./html:/usr/share/nginx/html:ro, data:/data, /var/run/docker.sock:/var/run/docker.sock]
    env_file: [web.env]
  worker:
    image: worker:2
    ports: [{ target: 90, published: 9090 }]
    volumes: [{ type: bind, source: ./conf, target: /conf }]
secrets: { key: { file: ./key.txt } }
`,
      { TAG: "2" },
    );
    expect(file.name).toBe("shop");
    expect(file.services).toEqual(["web", "worker"]);
    expect(file.images.map(({ name }) => name)).toEqual(["nginx:2", "worker:2"]);
    expect(file.ports).toEqual([8080, 8443, 9000, 9001, 9002, 9090]);
    expect(file.files.map(({ path, mustExist }) => [path, mustExist])).toEqual([
      ["html", false],
      ["web.env", true],
      ["conf", true],
      ["key.txt", true],
    ]);
  });

  it("may use anchors and merge keys", () => {
    const text =
      "x-base: &base { image: a:1 }\nservices:\n  one:\n    <<: *base\n    ports: ['1:1']\n  two: *base\n";
    expect(parse(text).images.map(({ name }) => name)).toEqual(["a:1"]);
  });

  it.each([
    ["services:\n  a: {}\n", "compose.yaml:2:6", "has no image"],
    ["services: {}\n", "compose.yaml:1:11", "no services"],
    ["version: '3'\n", "compose.yaml:1:1", "no services"],
    ["services:\n  a:\n    build: .\n", "compose.yaml:3:12", "builds its image"],
    [
      "services:\n  a:\n    image: x\n    volumes: [../up:/x]\n",
      "compose.yaml:4:15",
      "outside of the project",
    ],
    [
      "services:\n  a:\n    image: x\n    volumes: ['/etc:/x']\n",
      "compose.yaml:4:15",
      "outside of the project",
    ],
    ["services:\n  a:\n    image: x\n    ports: ['70000:1']\n", "compose.yaml:4:13", "no port"],
    ["services:\n  a:\n    image: $" + "{X:?set it}\n", "compose.yaml:3:12", "X is required: set it"],
    ["include: [x]\nservices: {a: {image: x}}\n", "compose.yaml:1:10", "include"],
    ['services:\n  api:\n    image: "unfinished\n', "compose.yaml:4:1", ""],
    ["services:\n\ta: 1\n", "compose.yaml:2:1", ""],
  ])("with %j is refused with the place", (text, place, reason) => {
    const error = problem(text);
    expect(error.code).toBe("invalid_argument");
    expect(error.subject).toBe(place);
    expect(error.reason).toContain(reason);
  });

  it("may build an image that sporelet.yaml has a source for", () => {
    const text = "services: { a: { image: 'mine:1', build: . } }";
    expect(parse(text, {}, ["mine:1"]).images.map(({ name }) => name)).toEqual(["mine:1"]);
  });
});

describe("interpolation", () => {
  it("leaves text without dollars alone, and takes $$ for one", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const plain = text.replaceAll("$", "");
        expect(interpolate(plain, new Map())).toBe(plain);
        expect(interpolate(text.replaceAll("$", "$$$$"), new Map())).toBe(text);
      }),
    );
  });

  it("takes defaults where a variable is unset, or empty with a colon", () => {
    const variables = new Map([["EMPTY", ""]]);
    const text = ["{A:-x}", "{A-y}", "{EMPTY:-z}", "{EMPTY-w}", "A", "{EMPTY}"]
      .map((one) => `$${one}`)
      .join("|");
    expect(interpolate(text, variables)).toBe("x|y|z|||");
  });
});

describe("a .env file", () => {
  it("is read by lines, with quotes and comments", () => {
    const text = `# c\nA=1\nexport B = "two words"\nC='#3' \nD=4 # four\nnonsense\n`;
    expect(Object.fromEntries(parseEnvFile(text))).toEqual({ A: "1", B: "two words", C: "#3", D: "4" });
  });
});
