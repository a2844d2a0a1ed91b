import manifest from "../../package.json" with { type: "json" };

/** Version of this sporectl. */
export const version: string = manifest.version;
