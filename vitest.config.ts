import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // Real guests under software emulation boot in seconds, and share two cores with the tests beside them.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    projects: [
      {
        extends: true,
        test: {
          name: "packages",
          include: ["{packages,apps}/*/src/**/*.spec.ts", "bench/**/*.spec.ts"],
          maxWorkers: 2,
        },
      },
      {
        extends: true,
        test: {
          name: "e2e",
          globalSetup: "tests/e2e/support/global.ts",
          include: ["tests/e2e/**/*.spec.ts"],
          fileParallelism: false,
          hookTimeout: 1_200_000,
        },
      },
    ],
  },
});
