// Command testsource is what the test of uniqueness clones: it draws random values from the kernel as fast as it
// can, hands them out with numbers, and notes how far it is where the test finds it in the guest's frozen memory.
//
//	testsource ADDRESS    prints the mark of its page of progress and serves GET /values?getrandom=N&urandom=N&process=N: the values after these numbers,
//	                      and GET /clock
//	testsource            prints one value: what a freshly started process draws
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	valueBytes = 16
	// kept values of each source.
	kept = 1 << 20
	// leastAnswered and mostAnswered are how many values of each source one answer holds.
	leastAnswered, mostAnswered = 2, 500
)

// progress is one page of memory: 16 bytes to find it by, and for each source how many draws have begun. The
// bytes are computed, so that they are nowhere else in memory.
type progress struct {
	mark  [16]byte
	begun [8]atomic.Uint64
}

func newProgress() (*progress, error) {
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	binary.LittleEndian.PutUint64(page, uint64(os.Getpid())*0x9e3779b97f4a7c15|1)
	binary.LittleEndian.PutUint64(page[8:], ^binary.LittleEndian.Uint64(page))
	return (*progress)(unsafe.Pointer(&page[0])), nil
}

// source hands out the values of one kind.
type source struct {
	name string
	draw func() ([]byte, error)
	// begun is the number of the draw that is under way or was the last.
	begun  *atomic.Uint64
	mu     sync.Mutex
	values [kept][valueBytes]byte
	// done is the number of the last value that is kept.
	done uint64
	more *sync.Cond
	// generation is shared with /run/sporelet/generation-id, and known what it was at the last draw.
	generation []byte
	known      [generationBytes]byte
	// early are the first values of this generation, from number earlyFrom on: whoever asks may come late.
	early     [][valueBytes]byte
	earlyFrom uint64
}

// generationBytes is the length of a generation id, a UUID.
const generationBytes = 36

func (s *source) run(ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		default:
		}
		cloned := !bytes.Equal(s.known[:], s.generation)
		number := s.begun.Add(1)
		value, err := s.draw()
		if err != nil || len(value) != valueBytes {
			log.Fatalf("%s: %v, %d bytes", s.name, err, len(value))
		}
		s.mu.Lock()
		if cloned {
			copy(s.known[:], s.generation)
			s.early, s.earlyFrom = nil, number
		}
		copy(s.values[number%kept][:], value)
		if len(s.early) < mostAnswered {
			s.early = append(s.early, [valueBytes]byte(value))
		}
		s.done = number
		s.mu.Unlock()
		s.more.Broadcast()
	}
}

// await waits for enough values after the one with this number.
func (s *source) await(number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.done < number+leastAnswered {
		s.more.Wait()
	}
}

// after returns the values that follow the one with this number.
func (s *source) after(number uint64) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var values []string
	if s.earlyFrom > number {
		for _, value := range s.early {
			values = append(values, hex.EncodeToString(value[:]))
		}
		return values, nil
	}
	if s.done >= number+kept {
		return nil, fmt.Errorf("%s: value %d is not kept any more", s.name, number+1)
	}
	for next := number + 1; next <= s.done && len(values) < mostAnswered; next++ {
		values = append(values, hex.EncodeToString(s.values[next%kept][:]))
	}
	return values, nil
}

func getrandom() ([]byte, error) {
	value := make([]byte, valueBytes)
	n, err := unix.Getrandom(value, 0)
	return value[:n], err
}

func process() ([]byte, error) {
	output, err := exec.Command("/proc/self/exe").Output()
	if err != nil {
		return nil, err
	}
	return hex.DecodeString(strings.TrimSpace(string(output)))
}

// generationID is the file of the generation's id, which the agent writes in place.
func generationID() ([]byte, error) {
	file, err := os.Open("/run/sporelet/generation-id")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return unix.Mmap(int(file.Fd()), 0, generationBytes, unix.PROT_READ, unix.MAP_SHARED)
}

func main() {
	if len(os.Args) == 1 {
		value, err := getrandom()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(hex.EncodeToString(value))
		return
	}
	page, err := newProgress()
	if err != nil {
		log.Fatal(err)
	}
	device, err := os.Open("/dev/urandom")
	if err != nil {
		log.Fatal(err)
	}
	urandom := func() ([]byte, error) {
		value := make([]byte, valueBytes)
		n, err := device.Read(value)
		return value[:n], err
	}
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	generation, err := generationID()
	if err != nil {
		log.Fatal(err)
	}
	sources := []*source{{name: "getrandom", draw: getrandom}, {name: "urandom", draw: urandom}, {name: "process", draw: process}}
	ended := make(chan struct{})
	var end sync.Once
	for i, one := range sources {
		one.begun, one.more = &page.begun[i], sync.NewCond(&one.mu)
		one.generation = generation
		copy(one.known[:], generation)
		go one.run(ended)
	}
	// Ends the drawing: there are others that want the processor.
	http.HandleFunc("/values", func(w http.ResponseWriter, r *http.Request) {
		answer := map[string][]string{}
		for _, one := range sources {
			number, err := strconv.ParseUint(r.FormValue(one.name), 10, 64)
			if err == nil {
				one.await(number)
				answer[one.name], err = one.after(number)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		end.Do(func() { close(ended) })
		_ = json.NewEncoder(w).Encode(answer)
	})
	// The guest's clock, nanoseconds since the epoch.
	http.HandleFunc("/clock", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, time.Now().UnixNano())
	})
	// Whoever reads this may freeze the guest at once: a clone has to draw, and to answer.
	fmt.Println(hex.EncodeToString(page.mark[:]))
	log.Fatal(http.Serve(listener, nil))
}
