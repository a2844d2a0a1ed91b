import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.SecureRandom;
import java.util.HexFormat;
import java.util.concurrent.atomic.AtomicReference;

/**
 * What the test of uniqueness clones of Java: draws all the time from generators that a program has in its memory, and
 * writes what it drew in each generation to DIRECTORY/GENERATION, as lines of a source's name and a value.
 */
public final class Draws {
  /** Of each source in each generation. */
  private static final int KEPT = 64;

  private record Told(String generation, SecureRandom random) {}

  public static void main(String[] args) throws Exception {
    Path directory = Path.of(args[0]);
    SporeletGeneration generation = new SporeletGeneration();
    // Nobody reseeds this one: its values have to be the same in all clones.
    SecureRandom helpless = SecureRandom.getInstance("DRBG");
    AtomicReference<Told> told = new AtomicReference<>(new Told(id(), fresh()));
    generation.onClone(() -> told.set(new Told(id(), fresh())));
    String current = "";
    int helplessKept = 0;
    int askedKept = 0;
    int toldKept = 0;
    while (true) {
      String before = id();
      String fromHelpless = draw(helpless);
      String fromAsked = draw(generation.random());
      Told listener = told.get();
      String fromTold = draw(listener.random());
      // What was under way when the machine was frozen counts for nothing.
      if (!before.equals(id())) continue;
      if (!before.equals(current)) {
        current = before;
        helplessKept = 0;
        askedKept = 0;
        toldKept = 0;
      }
      StringBuilder lines = new StringBuilder();
      if (helplessKept++ < KEPT) lines.append("helpless ").append(fromHelpless).append('\n');
      if (askedKept++ < KEPT) lines.append("asked ").append(fromAsked).append('\n');
      if (listener.generation().equals(before) && toldKept++ < KEPT) {
        lines.append("told ").append(fromTold).append('\n');
      }
      if (lines.length() > 0) {
        Path file = directory.resolve(before);
        Files.writeString(file, lines, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
      }
      // The frozen ones have to draw, not to heat the host.
      Thread.sleep(1);
    }
  }

  private static String id() {
    try {
      return Files.readString(Path.of("/run/sporelet/generation-id")).trim();
    } catch (IOException error) {
      throw new IllegalStateException(error);
    }
  }

  private static SecureRandom fresh() {
    try {
      return SporeletGeneration.reseed(SecureRandom.getInstance("DRBG"));
    } catch (java.security.NoSuchAlgorithmException error) {
      throw new IllegalStateException(error);
    }
  }

  private static String draw(SecureRandom from) {
    byte[] bytes = new byte[16];
    from.nextBytes(bytes);
    return HexFormat.of().formatHex(bytes);
  }
}
