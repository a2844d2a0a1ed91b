import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.SecureRandom;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;

/**
 * Tells a Java program that its machine is a new clone, so that it drops the generators that it keeps in memory.
 *
 * <p>{@link #random()} is a SecureRandom that is never older than the clone; UUID.randomUUID, ThreadLocalRandom and
 * libraries have generators of their own, which nothing can reseed: use this one, or restart the program by a hook.
 */
public final class SporeletGeneration {
  private static final Path DIRECTORY = Path.of(System.getProperty("sporelet.run", "/run/sporelet"));
  private static final int ID_BYTES = 36;

  private final ByteBuffer mapped;
  private final List<Runnable> listeners = new CopyOnWriteArrayList<>();
  private ByteBuffer known;
  private SecureRandom random = new SecureRandom();

  public SporeletGeneration() throws IOException {
    try (FileChannel file = FileChannel.open(DIRECTORY.resolve("generation-id"), StandardOpenOption.READ)) {
      // The agent writes in place: the mapping shows the new id before any program of the clone runs again.
      mapped = file.map(FileChannel.MapMode.READ_ONLY, 0, ID_BYTES);
    }
    known = copy();
    Thread waiting = new Thread(this::watch, "sporelet-generation");
    waiting.setDaemon(true);
    waiting.start();
  }

  /** A generator that was seeded in this clone. Ask for it at each use: that compares 36 bytes of memory. */
  public synchronized SecureRandom random() {
    if (!mapped.duplicate().equals(known.duplicate())) {
      known = copy();
      random = new SecureRandom();
    }
    return random;
  }

  /** Has something run in each new clone, a moment after its programs go on. */
  public void onClone(Runnable listener) {
    listeners.add(listener);
  }

  private ByteBuffer copy() {
    byte[] bytes = new byte[ID_BYTES];
    mapped.duplicate().get(bytes);
    return ByteBuffer.wrap(bytes);
  }

  private void watch() {
    ByteBuffer told = known;
    while (true) {
      try (InputStream generation = Files.newInputStream(DIRECTORY.resolve("next-generation"))) {
        // Looked at when that is open: a generation that begins later ends the read.
        if (mapped.duplicate().equals(told.duplicate())) {
          generation.read();
          continue;
        }
      } catch (IOException error) {
        throw new IllegalStateException("cannot wait for the next generation", error);
      }
      told = copy();
      listeners.forEach(Runnable::run);
    }
  }
}
