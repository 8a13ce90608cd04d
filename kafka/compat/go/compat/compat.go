// Package compat is the part that the Go drivers share: one JSON request a line in, one JSON reply a line out (see
// ../../README.md).
package compat

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"
)

// Wait is the longest time for one operation of a client.
const Wait = 30 * time.Second

// progress is after how many records ProduceUntil says that it is under way.
const progress = 200

// ErrUnsupported says that the client has no way to do what was asked for.
var ErrUnsupported = errors.New("the client cannot")

// Record is a record as the runner writes it.
type Record struct {
	Partition int32       `json:"partition"`
	Offset    int64       `json:"offset"`
	Key       *string     `json:"key"`
	Value     *string     `json:"value"`
	Headers   [][2]string `json:"headers"`
	Timestamp int64       `json:"timestamp"`
}

// Request is what the runner asks for; each operation reads its own fields.
type Request struct {
	Op         string            `json:"op"`
	Bootstrap  string            `json:"bootstrap"`
	Topic      string            `json:"topic"`
	Topics     []string          `json:"topics"`
	Partitions json.RawMessage   `json:"partitions"`
	Configs    map[string]string `json:"configs"`
	Name       string            `json:"name"`
	Value      string            `json:"value"`
	Count      int               `json:"count"`
	Partition  int32             `json:"partition"`
	Offset     *int64            `json:"offset"`
	Time       int64             `json:"time"`
	Codec      string            `json:"codec"`
	Acks       string            `json:"acks"`
	Idempotent bool              `json:"idempotent"`
	Records    []Record          `json:"records"`
	File       string            `json:"file"`
	WaitMs     int64             `json:"wait_ms"`
	Member     string            `json:"member"`
	Group      string            `json:"group"`
	Protocol   string            `json:"protocol"`
	Assignor   string            `json:"assignor"`
	Instance   string            `json:"instance"`
	Pattern    bool              `json:"pattern"`
	SessionMs  int64             `json:"session_ms"`
	Metadata   string            `json:"metadata"`
}

// Reply holds what an operation answers beside "ok".
type Reply map[string]any

// Operation carries out one request.
type Operation func(Request) (Reply, error)

// List is the partitions of a request that names several.
func (r Request) List() ([]int32, error) {
	var list []int32
	return list, json.Unmarshal(r.Partitions, &list)
}

// Number is the number of partitions of a request that says one.
func (r Request) Number() (int32, error) {
	var number int32
	return number, json.Unmarshal(r.Partitions, &number)
}

// Text is the text that bytes hold.
func Text(data []byte) *string {
	if data == nil {
		return nil
	}
	text := string(data)
	return &text
}

// Data is text as bytes.
func Data(text *string) []byte {
	if text == nil {
		return nil
	}
	return []byte(*text)
}

// Until calls send with 0, 1, ... until there is a file at path, and returns how often.
func Until(path string, send func(n int) error) (int, error) {
	for sent := 0; ; sent++ {
		if _, err := os.Stat(path); err == nil {
			return sent, nil
		}
		if sent == progress {
			say(Reply{"progress": sent})
		}
		if err := send(sent); err != nil {
			return sent, err
		}
	}
}

// Serve answers requests until standard input ends. open makes the operations for a bootstrap address.
// groups is what the client can do with groups.
func Serve(open func(bootstrap string) (map[string]Operation, error), module string, groups ...string) {
	opened := map[string]map[string]Operation{}
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var request Request
		if err := json.Unmarshal(line, &request); err != nil {
			say(Reply{"ok": false, "detail": err.Error()})
			continue
		}
		if request.Op == "hello" {
			say(Reply{"ok": true, "version": version(module), "cannot": []string{}, "groups": groups})
			continue
		}
		say(answer(opened, open, request))
	}
}

func answer(
	opened map[string]map[string]Operation, open func(string) (map[string]Operation, error), request Request,
) Reply {
	if opened[request.Bootstrap] == nil {
		operations, err := open(request.Bootstrap)
		if err != nil {
			return Reply{"ok": false, "detail": err.Error()}
		}
		opened[request.Bootstrap] = operations
	}
	operation := opened[request.Bootstrap][request.Op]
	if operation == nil {
		return Reply{"ok": nil, "detail": "the client has no " + request.Op}
	}
	reply, err := operation(request)
	switch {
	case errors.Is(err, ErrUnsupported):
		return Reply{"ok": nil, "detail": err.Error()}
	case err != nil:
		return Reply{"ok": false, "detail": err.Error()}
	case reply == nil:
		reply = Reply{}
	}
	reply["ok"] = true
	return reply
}

func say(reply Reply) {
	line, err := json.Marshal(reply)
	if err != nil {
		line = []byte(fmt.Sprintf(`{"ok": false, "detail": %q}`, err.Error()))
	}
	os.Stdout.Write(append(line, '\n'))
}

func version(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == module {
				return dependency.Version
			}
		}
	}
	return "unknown"
}
