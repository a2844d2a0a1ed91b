import { artifactLimits } from "@sporelet/oci";
import { largestIndexBytes, largestWorkingSetBytes } from "@sporelet/page-image";
import { expect, it } from "vitest";

it("artifacts are refused for sizes that the formats of their blobs do not allow, and for no others", () => {
  expect(artifactLimits.pageIndexBytes).toBe(largestIndexBytes);
  expect(artifactLimits.chainIndexBytes).toBeGreaterThanOrEqual(largestIndexBytes);
  expect(artifactLimits.workingSetBytes).toBe(largestWorkingSetBytes);
});
