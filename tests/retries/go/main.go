// Sends one unsafe call with HashiCorp's retryablehttp, and prints the result.
// Arguments: the address of the call. The settings are those of docs/guides/egress.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// Retries only if the gateway allows it: not after 504 or a truncated response.
func ordersOnce(ctx context.Context, response *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		var dial *net.OpError
		return errors.As(err, &dial) && dial.Op == "dial", err
	}
	return response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusServiceUnavailable, nil
}

func main() {
	client := retryablehttp.NewClient()
	client.Logger, client.RetryMax = nil, 2
	client.RetryWaitMin, client.RetryWaitMax = 100*time.Millisecond, 3*time.Second
	client.CheckRetry = ordersOnce
	client.ErrorHandler = retryablehttp.PassthroughErrorHandler
	ended := "error"
	if response, err := client.Post(os.Args[1], "application/json", []byte(`{"associateIds": [1]}`)); err == nil {
		ended = strconv.Itoa(response.StatusCode)
		response.Body.Close()
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]string{"ended": ended})
}
