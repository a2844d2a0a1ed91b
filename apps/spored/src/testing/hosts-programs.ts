import path from "node:path";
import { runProcess } from "@sporelet/host";

/** A program of the host's that a guest can run once its files are at the same places there. */
export interface HostProgram {
  program: string;
  /** Words before its name on a command line of a shell. */
  environment: string;
  files: string[];
}

/** A program from the host's PATH with its libraries; undefined when there is none. */
export async function hostProgram(name: string): Promise<HostProgram | undefined> {
  const found = await runProcess(["which", name], { operation: `look for ${name}` }).catch(() => undefined);
  if (found === undefined) return undefined;
  const program = found.stdout.trim();
  const libraries = await librariesOf([program]);
  return {
    program,
    environment: `LD_LIBRARY_PATH=${directoriesOf(libraries)}`,
    files: [program, ...libraries],
  };
}

/** The host's Python with these modules; undefined when there is none that has them. */
export async function hostPython(imports: string): Promise<HostProgram | undefined> {
  const list = [
    `import ${imports}`,
    "from importlib.metadata import version",
    "seen = {getattr(m, '__file__', None) for m in list(sys.modules.values())}",
    "print(json.dumps([os.path.realpath(sys.executable), sys.base_prefix, sorted(f for f in seen if f)]))",
  ].join("\n");
  const found = await runProcess(["python3", "-I", "-S", "-c", list], { operation: "look at Python" }).catch(
    () => undefined,
  );
  if (found === undefined) return undefined;
  const [program, home, modules] = JSON.parse(found.stdout) as [string, string, string[]];
  const libraries = await librariesOf([program, ...modules.filter((file) => file.endsWith(".so"))]);
  return {
    program,
    environment: `PYTHONHOME=${home} LD_LIBRARY_PATH=${directoriesOf(libraries)}`,
    files: [program, ...modules, ...libraries],
  };
}

/** What programs and libraries of the host are linked to. */
export async function librariesOf(binaries: string[]): Promise<string[]> {
  const { stdout } = await runProcess(["ldd", ...binaries], { operation: "look at libraries" });
  return [...new Set(stdout.match(/\/\S+\.so\S*(?= \(0x)/g))];
}

function directoriesOf(files: string[]): string {
  return [...new Set(files.map((file) => path.dirname(file)))].join(":");
}
