import type { ConnectRouter } from "@connectrpc/connect";
import { type NodeRecord, node } from "@sporelet/api";
import { version } from "./version.ts";

export interface ServiceOptions {
  home: string;
  record: NodeRecord;
  /** Ends spored. */
  end: (why: string) => void;
}

export function nodeRoutes(options: ServiceOptions): (router: ConnectRouter) => void {
  return (router) =>
    router.service(node.NodeService, {
      version: () => ({ version, pid: process.pid, home: options.home }),
      shutdownNode: () => {
        options.end("ShutdownNode");
        return {};
      },
    });
}
