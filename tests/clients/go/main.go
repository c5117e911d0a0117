// Command peer speaks HTTP/2 in the clear with Go's own net/http: `peer serve` forwards to an LLM server,
// `peer call` calls an LLM API. The command line of the latter is that of the Python clients.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
)

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: peer serve|call ...")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	switch os.Args[1] {
	case "serve":
		serve(flags)
	case "call":
		call(flags)
	default:
		log.Fatalf("no command %q", os.Args[1])
	}
}

func clearHTTP2() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return protocols
}

func serve(flags *flag.FlagSet) {
	to := flags.String("to", "", "URL of the server to forward to")
	flags.Parse(os.Args[2:])
	target, err := url.Parse(*to)
	if err != nil {
		log.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(request *httputil.ProxyRequest) { request.SetURL(target) },
		Transport:     &http.Transport{DisableCompression: true},
		FlushInterval: -1,
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("{\"port\": %d}\n", listener.Addr().(*net.TCPAddr).Port)
	server := &http.Server{Handler: proxy, Protocols: clearHTTP2()}
	log.Fatal(server.Serve(listener))
}

type texts []string

func (list *texts) String() string         { return strings.Join(*list, " ") }
func (list *texts) Set(value string) error { *list = append(*list, value); return nil }

type report struct {
	Call   int    `json:"call"`
	Status int    `json:"status"`
	Events int    `json:"events"`
	Error  string `json:"error,omitempty"`
}

func call(flags *flag.FlagSet) {
	var requests texts
	base := flags.String("base-url", "", "scheme, host and port of the server")
	flags.String("ca", "", "not used: there is no TLS")
	flags.Var(&requests, "request", "body of a call; may be repeated")
	rounds := flags.Int("calls", 1, "how often the bodies are gone through")
	concurrency := flags.Int("concurrency", 1, "calls in flight")
	cancelAfter := flags.Int("cancel-after", 0, "leaves a streamed answer after so many events")
	before := flags.Int("before", 0, "calls before it waits")
	wait := flags.Bool("wait", false, "opens a connection, prints 'ready' and starts at a line on standard input")
	flags.Parse(os.Args[2:])
	client := &http.Client{Transport: &http.Transport{Protocols: clearHTTP2(), DisableCompression: true}}
	one := func(number int, body string) report {
		answer := report{Call: number}
		if err := exchange(client, *base, body, *cancelAfter, &answer); err != nil {
			answer.Error = err.Error()
		}
		return answer
	}
	if *wait {
		response, err := client.Get(*base + "/v1/models")
		if err != nil {
			log.Fatal(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		for number := range *before {
			if answer := one(number-*before, requests[0]); answer.Error != "" {
				log.Fatal(answer.Error)
			}
		}
		fmt.Println(`{"ready": true}`)
		bufio.NewReader(os.Stdin).ReadString('\n')
	}
	room := make(chan struct{}, *concurrency)
	var lock sync.Mutex
	var all sync.WaitGroup
	number := 0
	for range *rounds {
		for _, body := range requests {
			room <- struct{}{}
			all.Add(1)
			go func(number int) {
				answer := one(number, body)
				lock.Lock()
				json.NewEncoder(os.Stdout).Encode(answer)
				lock.Unlock()
				<-room
				all.Done()
			}(number)
			number++
		}
	}
	all.Wait()
}

func exchange(client *http.Client, base, body string, cancelAfter int, answer *report) error {
	request, err := http.NewRequest("POST", base+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer test-key")
	request.Header.Set("X-Request-Id", strings.Repeat(fmt.Sprintf("%06d", answer.Call), 10))
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer.Status = response.StatusCode
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, "data:") || strings.HasSuffix(line, "[DONE]") {
			continue
		}
		answer.Events++
		if answer.Events == cancelAfter {
			return nil
		}
	}
	return lines.Err()
}
