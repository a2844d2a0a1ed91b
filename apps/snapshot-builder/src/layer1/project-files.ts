/** Puts a project into a guest: its files, its Compose file, its hooks. */
import { createReadStream } from "node:fs";
import { join, posix } from "node:path";
import type { AgentClient } from "@sporelet/api";
import { type Pack, pack } from "tar-stream";
import { parseDocument } from "yaml";
import type { Project } from "../project/load.ts";
import { composeSettings } from "../rootfs/content.ts";

/** Where the project lies in the guest; relative bind mounts are relative to it. */
function guestDirectory(project: Pick<Project, "name">): string {
  return `/srv/${project.name}`;
}

/** docker-compose 1.29 does not know `name:`, which newer files have. The project's name is given otherwise. */
function composeText(text: string): string {
  const document = parseDocument(text);
  if (!document.has("name")) return text;
  document.delete("name");
  return document.toString();
}

/** Unpacks everything with one call. Owner is root, times are zero: nothing of this host gets in. */
export async function sendProject(client: AgentClient, project: Project, signal: AbortSignal): Promise<void> {
  const archive = pack();
  const filling = fill(archive, project).catch((error) => archive.destroy(error));
  async function* requests() {
    yield { request: { case: "start" as const, value: { directory: "/" } } };
    for await (const chunk of archive as AsyncIterable<Buffer>) {
      for (let at = 0; at < chunk.length; at += 65536) {
        yield { request: { case: "data" as const, value: chunk.subarray(at, at + 65536) } };
      }
    }
  }
  await client.writeTar(requests(), { signal });
  await filling;
}

async function fill(archive: Pack, project: Project): Promise<void> {
  const root = guestDirectory(project).slice(1);
  const made = new Set(["srv", "etc", "etc/sporelet", "etc/sporelet/hooks"]);
  const parents = (path: string) => {
    for (let at = path.indexOf("/"); at > 0; at = path.indexOf("/", at + 1)) {
      const parent = path.slice(0, at);
      if (made.has(parent)) continue;
      made.add(parent);
      archive.entry({ ...owner, name: `${parent}/`, type: "directory", mode: 0o755 });
    }
  };
  const addText = (path: string, mode: number, text: string) => {
    parents(path);
    archive.entry({ ...owner, name: path, mode }, text);
  };
  const addFile = async (path: string, mode: number, sizeBytes: number, source: string) => {
    parents(path);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const entry = archive.entry({ ...owner, name: path, mode, size: sizeBytes }, (error) =>
      error ? reject(error) : resolve(),
    );
    createReadStream(source)
      .on("error", reject)
      .pipe(entry as unknown as NodeJS.WritableStream);
    await promise;
  };

  for (const file of project.files) {
    const path = posix.join(root, file.path);
    if (file.type === "file")
      await addFile(path, file.mode, file.sizeBytes, join(project.directory, file.path));
    else {
      parents(path);
      made.add(path);
      const link = file.type === "symlink" && { linkname: file.target };
      archive.entry({ ...owner, name: path, type: file.type, mode: file.mode, ...link });
    }
  }
  for (const [directory, hooks] of [
    ["before-freeze.d", project.config.hooks.beforeFreeze],
    ["after-resume.d", project.config.hooks.afterResume],
  ] as const) {
    for (const [index, hook] of hooks.entries()) {
      const file = project.files.find(({ path }) => path === hook);
      // The number keeps the order that sporelet.yaml gives.
      const path = `etc/sporelet/hooks/${directory}/${String(index).padStart(3, "0")}-${posix.basename(hook)}`;
      if (file?.type === "file") await addFile(path, 0o755, file.sizeBytes, join(project.directory, hook));
    }
  }
  addText(`${root}/compose.yaml`, 0o644, composeText(project.compose.text));
  const settings = [
    `COMPOSE_PROJECT=${project.name}`,
    `COMPOSE_DIRECTORY=/${root}`,
    `COMPOSE_FILE=/${root}/compose.yaml`,
  ];
  addText(composeSettings.slice(1), 0o644, `${settings.join("\n")}\n`);
  archive.finalize();
}

const owner = { uid: 0, gid: 0, mtime: new Date(0) };
