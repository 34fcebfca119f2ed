// A client of the OMS's published API ("Chord Admin API v1"), written down from its documented shapes as a generator of clients does it:
// every member has one type, and what does not fit that type is an error. It plays the documented operations on webhook endpoints.
//
// Usage: admin_client BASE_URL TARGET_URL (the API key in API_KEY). It prints what it saw as one JSON object.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
)

// Attempt as it is documented: token and idempotency_key may be null.
type Attempt struct {
	ID             int     `json:"id"`
	EventName      string  `json:"event_name"`
	HTTPStatusCode int     `json:"http_status_code"`
	TargetURL      string  `json:"target_url"`
	Token          *string `json:"token"`
	IdempotencyKey *string `json:"idempotency_key"`
}

// Endpoint as it is documented: events and filters are arrays of strings.
type Endpoint struct {
	ID        int       `json:"id,omitempty"`
	TargetURL string    `json:"target_url"`
	Token     string    `json:"token,omitempty"`
	Events    []string  `json:"events"`
	Filters   []string  `json:"filters"`
	Attempts  []Attempt `json:"attempts,omitempty"`
}

// EndpointList is wrapped by name, as answers are in practice.
type EndpointList struct {
	Endpoints []Endpoint `json:"endpoints"`
}

// Wrapped is how an endpoint is sent.
type Wrapped struct {
	Endpoint Endpoint `json:"endpoint"`
}

// Client speaks to one base path, such as https://host/v1.
type Client struct{ base, key string }

func (c Client) call(method, path string, query url.Values, given, found any) (int, error) {
	var body io.Reader
	if given != nil {
		text, err := json.Marshal(given)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(text)
	}
	address := c.base + path
	if query != nil {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequest(method, address, body)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+c.key)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	if found != nil && response.StatusCode < 300 {
		if err := json.Unmarshal(text, found); err != nil {
			return response.StatusCode, fmt.Errorf("%s %s: %w in %s", method, path, err, text)
		}
	}
	return response.StatusCode, nil
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	client := Client{os.Args[1], os.Getenv("API_KEY")}
	const path = "/api/webhook/endpoints"
	seen := map[string]any{}
	wanted := Wrapped{Endpoint{
		TargetURL: os.Args[2],
		Token:     "t0ken",
		Events:    []string{"order_completed"},
		Filters:   []string{`data.channel == "spree"`, `decimal(data.total) >= decimal("100")`},
	}}

	var created, again, read, updated Endpoint
	status, err := client.call("POST", path, nil, wanted, &created)
	fail(err)
	seen["create"] = status
	status, err = client.call("POST", path, nil, wanted, &again)
	fail(err)
	seen["create_again"], seen["is_same"] = status, again.ID == created.ID
	one := path + "/" + strconv.Itoa(created.ID)

	var list EndpointList
	query := url.Values{"page": {"1"}, "per_page": {"10"}, "include_attempts": {"true"}, "attempts_count": {"5"}, "q[target_url_eq]": {os.Args[2]}}
	status, err = client.call("GET", path, query, nil, &list)
	fail(err)
	seen["list"], seen["listed"] = status, list.Endpoints

	status, err = client.call("GET", one, url.Values{"include_attempts": {"true"}}, nil, &read)
	fail(err)
	seen["read"], seen["endpoint"] = status, read

	// What was read is sent back with a change, as such clients do.
	read.Attempts, read.Filters, read.Events = nil, append(read.Filters, "data.total_quantity > 1"), []string{"order_completed", "order_cancelled"}
	status, err = client.call("PUT", one, nil, Wrapped{read}, &updated)
	fail(err)
	seen["update"], seen["updated"] = status, updated

	status, err = client.call("PUT", one, nil, Wrapped{Endpoint{TargetURL: os.Args[2], Events: read.Events, Filters: []string{"data.total >"}}}, nil)
	fail(err)
	seen["invalid"] = status

	status, err = client.call("DELETE", one, nil, nil, nil)
	fail(err)
	seen["delete"] = status
	status, err = client.call("GET", one, nil, nil, nil)
	fail(err)
	seen["read_deleted"] = status
	status, err = Client{client.base, "wrong"}.call("GET", path, nil, nil, nil)
	fail(err)
	seen["wrong_key"] = status
	fail(json.NewEncoder(os.Stdout).Encode(seen))
}
