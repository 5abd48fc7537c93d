// The load on etcd of `bench raft`, and the probe of its failovers.
//
//	etcdload load ENDPOINTS put|get CLIENTS CONNECTIONS KEYS BYTES WARM_S MEASURE_S
//	etcdload probe ENDPOINTS
//
// `load`: each client has one request outstanding, puts a random key or gets one linearizably; clients share
// connections. Prints {"measuring": true} when the clock begins, and what it measured when it has stopped.
//
// `probe`: begins a put by each endpoint every 5 ms, whether others are under way or not, and prints for each that is
// acknowledged when it began and when it ended, in nanoseconds of the wall clock; ends with its standard input.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const probeEvery = 5 * time.Millisecond
const probeTimeout = 2 * time.Second
const probesAtATime = 400

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcdload:", err)
		os.Exit(1)
	}
}

func connect(endpoints ...string) *clientv3.Client {
	quiet := zap.NewProductionConfig() // what fails is ours to report
	quiet.Level = zap.NewAtomicLevelAt(zapcore.FatalLevel)
	config := clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second, LogConfig: &quiet}
	client, err := clientv3.New(config)
	check(err)
	return client
}

func number(word string) int {
	value, err := strconv.Atoi(word)
	check(err)
	return value
}

func seconds(word string) time.Duration {
	value, err := strconv.ParseFloat(word, 64)
	check(err)
	return time.Duration(value * float64(time.Second))
}

func key(number int) string { return fmt.Sprintf("/bench/%05d", number) }

// Everything that a load is told.
type load struct {
	clients   []*clientv3.Client
	gets      bool
	keys      int
	value     string
	measuring int32
	stopping  int32
}

// One logical client, until it is to stop: the microseconds of each request that began while it was measured.
func (l *load) run(index int) []float64 {
	client := l.clients[index%len(l.clients)]
	dice := rand.New(rand.NewSource(int64(index)))
	spans := []float64{}
	for atomic.LoadInt32(&l.stopping) == 0 {
		counts := atomic.LoadInt32(&l.measuring) == 1
		name := key(dice.Intn(l.keys))
		began := time.Now()
		l.ask(client, name)
		if counts {
			spans = append(spans, float64(time.Since(began).Nanoseconds())/1e3)
		}
	}
	return spans
}

func (l *load) ask(client *clientv3.Client, name string) {
	if !l.gets {
		_, err := client.Put(context.Background(), name, l.value)
		check(err)
		return
	}
	found, err := client.Get(context.Background(), name)
	check(err)
	if len(found.Kvs) != 1 || len(found.Kvs[0].Value) != len(l.value) {
		check(fmt.Errorf("%s is not as it was put", name))
	}
}

// What is read is there before.
func (l *load) fill(width int) {
	var all sync.WaitGroup
	for first := 0; first < width; first++ {
		all.Add(1)
		go func(first int) {
			defer all.Done()
			for number := first; number < l.keys; number += width {
				_, err := l.clients[first%len(l.clients)].Put(context.Background(), key(number), l.value)
				check(err)
			}
		}(first)
	}
	all.Wait()
}

func runLoad(words []string) {
	endpoints, width, connections := strings.Split(words[0], ","), number(words[2]), number(words[3])
	bytes := make([]byte, number(words[5]))
	for i := range bytes {
		bytes[i] = byte('a' + rand.Intn(26))
	}
	l := &load{gets: words[1] == "get", keys: number(words[4]), value: string(bytes)}
	for i := 0; i < connections; i++ {
		l.clients = append(l.clients, connect(endpoints...))
	}
	if l.gets {
		l.fill(width)
	}
	spans := make([][]float64, width)
	var all sync.WaitGroup
	for i := 0; i < width; i++ {
		all.Add(1)
		go func(i int) { defer all.Done(); spans[i] = l.run(i) }(i)
	}
	time.Sleep(seconds(words[6]))
	fmt.Println(`{"measuring": true}`)
	began := time.Now()
	atomic.StoreInt32(&l.measuring, 1)
	time.Sleep(seconds(words[7]))
	atomic.StoreInt32(&l.stopping, 1)
	all.Wait()
	report(spans, time.Since(began))
}

func report(spans [][]float64, elapsed time.Duration) {
	all := []float64{}
	for _, some := range spans {
		all = append(all, some...)
	}
	sort.Float64s(all)
	if len(all) == 0 {
		check(fmt.Errorf("nothing was answered"))
	}
	text, err := json.Marshal(map[string]float64{
		"count":  float64(len(all)),
		"rate":   float64(len(all)) / elapsed.Seconds(),
		"p50_us": all[len(all)/2],
		"p99_us": all[len(all)*99/100],
	})
	check(err)
	fmt.Println(string(text))
}

func runProbe(words []string) {
	var lines sync.Mutex
	for _, endpoint := range strings.Split(words[0], ",") {
		client := connect(endpoint)
		room := make(chan bool, probesAtATime)
		go func() {
			for range time.Tick(probeEvery) {
				room <- true
				go func() {
					defer func() { <-room }()
					within, cancel := context.WithTimeout(context.Background(), probeTimeout)
					defer cancel()
					began := time.Now().UnixNano()
					if _, err := client.Put(within, "/probe", "x"); err == nil {
						lines.Lock()
						fmt.Println(began, time.Now().UnixNano())
						lines.Unlock()
					}
				}()
			}
		}()
	}
	io.Copy(io.Discard, os.Stdin)
}

func main() {
	if os.Args[1] == "probe" {
		runProbe(os.Args[2:])
		return
	}
	runLoad(os.Args[2:])
}
