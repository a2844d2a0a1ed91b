/**
 * What the builder reads in a Compose file: images, published ports, and the project's files that have to be
 * in the guest. docker-compose in the guest reads the same file for everything else.
 */
import { posix } from "node:path";
import { interpolate, type Variables } from "./interpolate.ts";
import { type Located, parseYaml } from "./located.ts";

export interface ComposeFile {
  /** As the file's own `name:` says; undefined when it says nothing. */
  name: string | undefined;
  services: string[];
  /** Image of each service, without repetition; `at` is where it stands. */
  images: { name: string; at: Located }[];
  /** Published TCP ports of the guest. */
  ports: number[];
  /** Files and directories to copy, relative to the project; they need not all exist. */
  files: { path: string; at: Located; mustExist: boolean }[];
}

/** Host paths of bind mounts that mean the guest's own: the guest is the host of these containers. */
const guestPaths = ["/var/run/docker.sock", "/run/docker.sock", "/dev", "/proc", "/sys", "/lib/modules"];

/**
 * @param options.builtImages names that sporelet.yaml gives a source for: a `build:` beside them is ignored
 * @throws SporeletError `invalid_argument` with line and column
 */
export function parseComposeFile(
  text: string,
  file: string,
  options: { variables: Variables; builtImages: ReadonlySet<string> },
): ComposeFile {
  const root = parseYaml(text, file);
  const top = root.members();
  const resolve = (at: Located): string => {
    try {
      return interpolate(at.string(), options.variables);
    } catch (error) {
      if (error instanceof Error && error.name === "Error") return at.fail(error.message);
      throw error;
    }
  };
  top
    .get("include")
    ?.fail("include is not supported", "merge the files: docker compose config > compose.yaml");
  const services = top.get("services")?.members() ?? new Map<string, Located>();
  if (services.size === 0) (top.get("services") ?? root).fail("there are no services in it");

  const images = new Map<string, Located>();
  const ports = new Set<number>();
  const files: ComposeFile["files"] = [];
  const need = (at: Located, path: string, mustExist: boolean) =>
    files.push({ path: inside(at, path), at, mustExist });
  for (const [name, service] of services) {
    const members = service.members();
    const image = members.get("image");
    const imageName = image && resolve(image);
    const build = members.get("build");
    if (build !== undefined && !(imageName !== undefined && options.builtImages.has(imageName))) {
      build.fail(
        `the service ${name} builds its image, which happens outside of Sporelet`,
        "build the image first, docker save it, and name the tar under images: in sporelet.yaml",
      );
    }
    const extended = members.get("extends");
    if (extended?.isMapping() && extended.members().has("file")) {
      extended.fail(
        "extends with a file is not supported",
        "merge the files: docker compose config > compose.yaml",
      );
    }
    if (image === undefined || imageName === undefined) {
      if (extended === undefined) service.fail(`the service ${name} has no image`);
    } else if (imageName === "") image.fail(`the image of ${name} is empty`);
    else if (!images.has(imageName)) images.set(imageName, image);

    for (const at of members.get("ports")?.items() ?? []) {
      for (const port of publishedPorts(at, resolve)) ports.add(port);
    }
    for (const at of members.get("volumes")?.items() ?? []) {
      const source = bindSource(at, resolve);
      if (source !== undefined && !isGuestPath(source)) need(at, source, at.isMapping());
    }
    const envFile = members.get("env_file");
    for (const at of envFile?.isList() ? envFile.items() : envFile ? [envFile] : [])
      need(at, resolve(at), true);
  }
  for (const section of ["secrets", "configs"]) {
    for (const definition of top.get(section)?.members().values() ?? []) {
      const at = definition.members().get("file");
      if (at !== undefined) need(at, resolve(at), true);
    }
  }
  const name = top.get("name");
  return {
    name: name && resolve(name),
    services: [...services.keys()],
    images: [...images].map(([imageName, at]) => ({ name: imageName, at })),
    ports: [...ports],
    files,
  };
}

/** `8080:80`, `127.0.0.1:8080:80/tcp`, `9000-9002:…`, or `{ published, target, protocol }`. */
function publishedPorts(at: Located, resolve: (at: Located) => string): number[] {
  if (at.isMapping()) {
    const members = at.members();
    const published = members.get("published");
    const protocol = members.get("protocol")?.string() ?? "tcp";
    return published === undefined || protocol !== "tcp" ? [] : range(published, resolve(published));
  }
  const [spec = "", protocol = "tcp"] = resolve(at).split("/");
  const parts = spec.split(":");
  const published = parts.length > 1 ? (parts.at(-2) ?? "") : "";
  return published === "" || protocol !== "tcp" ? [] : range(at, published);
}

function range(at: Located, text: string): number[] {
  const [first = Number.NaN, last = first] = text.split("-").map(Number);
  if (!(first >= 1 && last >= first && last <= 65535))
    return at.fail(`"${text}" is no port or range of ports`);
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

/** The host's side of a bind mount; undefined for named volumes and tmpfs. */
function bindSource(at: Located, resolve: (at: Located) => string): string | undefined {
  if (at.isMapping()) {
    const members = at.members();
    const source = members.get("source");
    return members.get("type")?.string() === "bind" && source !== undefined ? resolve(source) : undefined;
  }
  const [source = "", target] = resolve(at).split(":");
  return target !== undefined && /^[./~]/.test(source) ? source : undefined;
}

function isGuestPath(path: string): boolean {
  return guestPaths.some((known) => path === known || path.startsWith(`${known}/`));
}

function inside(at: Located, path: string): string {
  const clean = posix.normalize(path).replace(/\/$/, "");
  if (clean.startsWith("/") || clean.startsWith("~") || clean === ".." || clean.startsWith("../")) {
    at.fail(
      `${path} lies outside of the project, and a frozen machine cannot reach this host's files`,
      "copy it into the project's directory, or use a named volume",
    );
  }
  return clean;
}
