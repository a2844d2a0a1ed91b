// Command testworker is what tests freeze and fork: a program that works on memory and disk all the time, can
// tell afterwards whether anything of that was lost or altered, and answers HTTP requests meanwhile.
//
//	testworker DIRECTORY ADDRESS
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	pageBytes   = 4096
	ringPages   = 4096
	recordBytes = 1024
)

// fill makes the record with this number: the number, bytes that follow from it, and their checksum.
func fill(record []byte, number uint64) {
	binary.LittleEndian.PutUint64(record, number)
	state := number*0x9e3779b97f4a7c15 + 1
	end := len(record) - 4
	for i := 8; i < end; i++ {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		record[i] = byte(state)
	}
	binary.LittleEndian.PutUint32(record[end:], crc32.ChecksumIEEE(record[:end]))
}

// check returns what is wrong with a record that should have this number.
func check(record []byte, number uint64) error {
	end := len(record) - 4
	if sum := crc32.ChecksumIEEE(record[:end]); sum != binary.LittleEndian.Uint32(record[end:]) {
		return fmt.Errorf("record %d is damaged", number)
	}
	if found := binary.LittleEndian.Uint64(record); found != number {
		return fmt.Errorf("record %d is where %d should be", found, number)
	}
	return nil
}

// ring is anonymous memory: page n modulo its length holds record n.
type ring struct {
	mu    sync.Mutex
	pages []byte
	next  uint64
}

func newRing() (*ring, error) {
	pages, err := unix.Mmap(-1, 0, ringPages*pageBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	return &ring{pages: pages}, err
}

func (r *ring) page(number uint64) []byte {
	at := number % ringPages * pageBytes
	return r.pages[at : at+pageBytes]
}

func (r *ring) write() {
	r.mu.Lock()
	defer r.mu.Unlock()
	fill(r.page(r.next), r.next)
	r.next++
}

func (r *ring) verify() (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for number := r.next - min(r.next, ringPages); number < r.next; number++ {
		if err := check(r.page(number), number); err != nil {
			return r.next, err
		}
	}
	return r.next, nil
}

// journal is a file that each record is appended to and synced.
type journal struct {
	mu   sync.Mutex
	file *os.File
	next uint64
}

func (j *journal) write() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	record := make([]byte, recordBytes)
	fill(record, j.next)
	if _, err := j.file.Write(record); err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	j.next++
	return nil
}

// verify reads the file from the disk, not from the page cache.
func (j *journal) verify() (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return j.next, err
	}
	file, err := os.Open(j.file.Name())
	if err != nil {
		return j.next, err
	}
	defer file.Close()
	record := make([]byte, recordBytes)
	for number := range j.next {
		if _, err := io.ReadFull(file, record); err != nil {
			return j.next, fmt.Errorf("record %d: %w", number, err)
		}
		if err := check(record, number); err != nil {
			return j.next, err
		}
	}
	if rest, _ := io.Copy(io.Discard, file); rest > 0 {
		return j.next, fmt.Errorf("%d bytes too many", rest)
	}
	return j.next, nil
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("content-type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

func problem(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: testworker DIRECTORY ADDRESS")
	}
	memory, err := newRing()
	if err != nil {
		log.Fatal(err)
	}
	file, err := os.OpenFile(filepath.Join(os.Args[1], "journal"), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	disk := &journal{file: file}

	var mu sync.Mutex
	var requests uint64
	var failure error
	ended := make(chan struct{})
	var workers sync.WaitGroup
	work := func(pause time.Duration, write func() error) {
		workers.Go(func() {
			for {
				select {
				case <-ended:
					return
				case <-time.After(pause):
				}
				if err := write(); err != nil {
					mu.Lock()
					failure = err
					mu.Unlock()
					return
				}
			}
		})
	}
	// A few hundred pages and some ten records a second: under software emulation a guest has little more.
	work(10*time.Millisecond, func() error {
		for range 8 {
			memory.write()
		}
		return nil
	})
	work(20*time.Millisecond, disk.write)

	http.HandleFunc("/visit", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		requests++
		answer(w, map[string]any{"requests": requests})
	})
	http.HandleFunc("/verify", func(w http.ResponseWriter, _ *http.Request) {
		pages, memoryError := memory.verify()
		records, diskError := disk.verify()
		mu.Lock()
		defer mu.Unlock()
		answer(w, map[string]any{
			"pages": pages, "records": records, "requests": requests,
			"problems": []string{problem(memoryError), problem(diskError), problem(failure)},
		})
	})
	// Closes the file, so that its file system can be unmounted.
	http.HandleFunc("/end", func(w http.ResponseWriter, _ *http.Request) {
		close(ended)
		workers.Wait()
		answer(w, map[string]any{"problem": problem(file.Close())})
	})
	log.Fatal(http.ListenAndServe(os.Args[2], nil))
}
