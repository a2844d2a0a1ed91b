import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
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
 * <p>{@link #random()} is a SecureRandom that is never older than the clone. What else a program has can be given new
 * entropy by {@link #reseed}; a new object alone is not enough, because the JVM seeds new generators of the kinds DRBG
 * and SHA1PRNG from one that it keeps in memory. UUID.randomUUID, ThreadLocalRandom and libraries have generators that
 * nobody else can get at: use this one instead, or restart the program by a hook.
 */
public final class SporeletGeneration {
  private static final Path DIRECTORY = Path.of(System.getProperty("sporelet.run", "/run/sporelet"));
  private static final int ID_BYTES = 36;
  private static final int SEED_BYTES = 32;

  private final ByteBuffer mapped;
  private final List<Runnable> listeners = new CopyOnWriteArrayList<>();
  private ByteBuffer known;
  private SecureRandom random = reseed(new SecureRandom());

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
      random = reseed(new SecureRandom());
    }
    return random;
  }

  /** Adds to a generator what the kernel draws in this clone, and returns it. */
  public static SecureRandom reseed(SecureRandom random) {
    try (InputStream kernel = Files.newInputStream(Path.of("/dev/urandom"))) {
      random.setSeed(kernel.readNBytes(SEED_BYTES));
    } catch (IOException error) {
      throw new UncheckedIOException(error);
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
