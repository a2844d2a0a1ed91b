import { create } from "@bufbuild/protobuf";
import { node as api } from "@sporelet/api";
import { type Check, hostChecks } from "@sporelet/host";
import type { Probe } from "@sporelet/vmm";
import { asideChecks } from "./aside.ts";
import type { Node } from "./node.ts";

/** Doctor: the host, the VMM and the store, as they are now. */
export async function doctor(node: Node): Promise<api.DoctorResponse> {
  const snapshots = await node.store.list(() => {});
  const guests = snapshots.flatMap(({ files: { kernel, initramfs } }) =>
    kernel !== undefined && initramfs !== undefined ? [{ kernel, initramfs }] : [],
  );
  const [newest] = guests;
  const [host, aside, probe] = await Promise.all([
    hostChecks({ home: node.home }),
    asideChecks(node),
    newest === undefined ? node.probes.get() : node.probes.best(newest),
  ]);
  const checks = [...vmmChecks(probe, newest !== undefined), ...host, ...aside];
  return create(api.DoctorResponseSchema, { checks });
}

/** What the probe found, as checks. Without a guest to try accelerators with, only what is certain is told. */
function vmmChecks(probe: Probe, tried: boolean): Check[] {
  const remedy = probe.problems.find((problem) => problem.remedy)?.remedy ?? "";
  const findings = probe.problems.map(({ finding }) => finding).join("; ");
  if (probe.version === undefined) {
    return [
      {
        id: `vmm.${probe.driver}`,
        title: probe.driver,
        status: "missing",
        finding: findings || "not found",
        remedy,
      },
    ];
  }
  const vmm: Check = {
    id: `vmm.${probe.driver}`,
    title: probe.driver,
    status: "ok",
    finding: `${probe.version}${probe.binary === undefined ? "" : ` (${probe.binary})`}`,
    remedy: "",
  };
  const [best] = probe.accelerators;
  const title = "accelerator";
  if (best === "kvm") return [vmm, { id: "accelerator", title, status: "ok", finding: "kvm", remedy: "" }];
  if (best === "tcg") {
    const untried = tried ? "" : "; tried once something was built";
    const finding = `software emulation${findings ? `: ${findings}` : ""}${untried}`;
    return [vmm, { id: "accelerator", title, status: "degraded", finding, remedy }];
  }
  return [vmm, { id: "accelerator", title, status: "missing", finding: findings || "none works", remedy }];
}
