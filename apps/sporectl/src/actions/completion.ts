import { nearest } from "@sporelet/errors";
import type { Action } from "../cli/command.ts";
import { usageError } from "../cli/usage.ts";
import { families, groups } from "../commands/index.ts";
import { type CompletionSignature, shells } from "../commands/other.ts";
import { completionModel } from "../completion/model.ts";

export const action: Action<CompletionSignature> = async (context, { shell }) => {
  const model = completionModel(groups, families);
  switch (shell) {
    case "bash":
      context.io.stdout.write((await import("../completion/bash.ts")).bashScript(model));
      return 0;
    case "zsh":
      context.io.stdout.write((await import("../completion/zsh.ts")).zshScript(model));
      return 0;
    case "fish":
      context.io.stdout.write((await import("../completion/fish.ts")).fishScript(model));
      return 0;
    default: {
      const [near] = nearest(shell, shells);
      throw usageError(
        context.command,
        `there is no completion for ${shell}`,
        near ? `did you mean ${near}?` : `there is one for ${shells.join(", ")}`,
      );
    }
  }
};
