// An endpoint for OMS webhooks: verify, store, answer, then process.
//
//	WEBHOOK_SECRET=whsec_... PORT=8000 go run .
package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const maxBody = 8 << 20

var (
	inbox = setting("INBOX", "inbox")
	// One that waits is enough: whoever reads it looks at all that there is.
	somethingCame = make(chan struct{}, 1)
)

func main() {
	webhook, err := standardwebhooks.NewWebhook(os.Getenv("WEBHOOK_SECRET"))
	if err != nil {
		log.Fatalf("WEBHOOK_SECRET: %v", err)
	}
	if err := os.MkdirAll(inbox, 0o700); err != nil {
		log.Fatal(err)
	}
	go work()
	http.HandleFunc("/webhooks", func(response http.ResponseWriter, request *http.Request) {
		receive(webhook, response, request)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+setting("PORT", "8000"), nil))
}

func receive(webhook *standardwebhooks.Webhook, response http.ResponseWriter, request *http.Request) {
	if request.Method != http.MethodPost {
		http.Error(response, "POST only", http.StatusMethodNotAllowed)
		return
	}
	// The bytes as they came: parsed and written again, they would not fit the signature.
	body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, maxBody))
	if err != nil {
		http.Error(response, "the body broke off or is too large", http.StatusBadRequest)
		return
	}
	if err := webhook.Verify(body, request.Header); err != nil {
		http.Error(response, "the signature does not fit", http.StatusUnauthorized)
		return
	}
	if err := keep(request.Header.Get("webhook-id"), body); err != nil {
		log.Print(err)
		http.Error(response, "try again later", http.StatusServiceUnavailable)
		return
	}
	response.WriteHeader(http.StatusNoContent)
}

// keep writes a webhook to disk, once. A copy of it writes the same bytes to the same file, which does no harm.
func keep(webhookID string, body []byte) error {
	digest := sha256.Sum256([]byte(webhookID))
	name := filepath.Join(inbox, hex.EncodeToString(digest[:]))
	part, err := os.CreateTemp(inbox, "part-")
	if err != nil {
		return err
	}
	defer part.Close()
	if _, err := part.Write(body); err != nil {
		return err
	}
	if err := part.Sync(); err != nil {
		return err
	}
	if err := os.Rename(part.Name(), name+".json"); err != nil {
		return err
	}
	select {
	case somethingCame <- struct{}{}:
	default:
	}
	return nil
}

// work works on all that has no mark yet, also on what came before the last crash.
func work() {
	for {
		for _, path := range waiting() {
			if err := handleFile(path); err != nil {
				log.Printf("%s could not be handled; it is tried again: %v", path, err)
				continue
			}
			if err := os.WriteFile(mark(path), nil, 0o600); err != nil {
				log.Print(err)
			}
		}
		select {
		case <-somethingCame:
		case <-time.After(time.Minute):
		}
	}
}

// waiting lists what has no mark, the oldest first.
func waiting() []string {
	paths, _ := filepath.Glob(filepath.Join(inbox, "*.json")) // it fails for bad patterns only
	came := map[string]time.Time{}
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			came[path] = info.ModTime()
		}
	}
	paths = slices.DeleteFunc(paths, func(path string) bool {
		_, err := os.Stat(mark(path))
		return err == nil
	})
	slices.SortFunc(paths, func(one, other string) int {
		return cmp.Compare(came[one].UnixNano(), came[other].UnixNano())
	})
	return paths
}

func mark(path string) string {
	return strings.TrimSuffix(path, ".json") + ".done"
}

func handleFile(path string) error {
	body, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var event struct {
		ID        string          `json:"id"`
		EventName string          `json:"event_name"`
		Data      json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &event); err != nil {
		return err
	}
	// Yours: here is time for what takes long.
	seconds, _ := strconv.ParseFloat(setting("WORK_SECONDS", "0"), 64)
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	fmt.Println("handled", event.ID, event.EventName)
	return nil
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
