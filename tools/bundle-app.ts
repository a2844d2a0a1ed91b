import { chmodSync, readdirSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { build, type Plugin } from "esbuild";

// Bundles an app into a directory: <app>.mjs, and with --split the parts that it loads when they are needed
// as <app>-*.mjs beside it. usage: bundle-app.ts APP DIRECTORY [--split]
const [app = "", directory = ""] = process.argv.slice(2);
const split = process.argv.includes("--split");
const top = path.join(import.meta.dirname, "..");

/**
 * Node's own modules are fetched when the code that uses them runs. An `import` of node:http or node:util
 * reads all that they export, and with it loads undici and worker threads: 30 ms that a short command feels.
 */
const lazyBuiltins: Plugin = {
  name: "lazy-builtins",
  setup(context) {
    context.onResolve({ filter: /^node:/ }, ({ path: name }) => ({
      path: name,
      namespace: "builtin",
      sideEffects: false,
    }));
    context.onLoad({ filter: /.*/, namespace: "builtin" }, ({ path: name }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(name)});`,
    }));
  },
};

// Packages in CommonJS ask for Node's own modules by require(), which a module in ESM does not have.
const banner = `const require = process.getBuiltinModule("node:module").createRequire(import.meta.url);`;

const before = readdirSync(directory).filter((file) => file.startsWith(`${app}-`) && file.endsWith(".mjs"));
const result = await build({
  absWorkingDir: top,
  entryPoints: { [`${app}.new`]: path.join(top, "apps", app, "src/main.ts") },
  outdir: directory,
  outExtension: { ".js": ".mjs" },
  chunkNames: `${app}-[name]-[hash]`,
  splitting: split,
  metafile: true,
  bundle: true,
  platform: "node",
  format: "esm",
  // Node 22 lacks `using`: the target makes esbuild write it out.
  target: "node22",
  external: ["koffi"],
  plugins: [lazyBuiltins],
  banner: { js: banner },
  legalComments: "inline",
  logLevel: "warning",
});
const entry = path.join(directory, `${app}.mjs`);
chmodSync(path.join(directory, `${app}.new.mjs`), 0o755);
renameSync(path.join(directory, `${app}.new.mjs`), entry);
const made = new Set(Object.keys(result.metafile.outputs).map((file) => path.basename(file)));
for (const file of before) if (!made.has(file)) rmSync(path.join(directory, file));
