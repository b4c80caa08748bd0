// Calls the gateway with HTTP clients of Go and with code that Go's official generators create from proto/.
//
// Prints a line for each case, and exits with 1 if one of them failed.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "client/tenantgatewayv1"
)

const deadline = 30 * time.Second

var (
	given struct {
		Base, Denied, Token, Expired, Grpc, Tenant string
		Repeats                                    int
		Keepalive                                  map[string]string
	}
	large  = bytes.Repeat([]byte("0123456789"), 500_000) // 5 MB
	small  = large[:100_000]
	failed = false
)

func report(client, name string, run func() error) {
	begin, outcome := time.Now(), "ok"
	if err := run(); err != nil {
		failed, outcome = true, fmt.Sprintf("FAILED: %q", err)
	}
	fmt.Printf("%s %s %d ms: %s\n", client, name, time.Since(begin).Milliseconds(), outcome)
}

func equal(got, wanted any) error {
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		return fmt.Errorf("%v is not %v", got, wanted)
	}
	return nil
}

// The report of the API host about an upload.
type echo struct {
	Bytes       int
	ContentType string
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// Sends a request. A body of unknown length is sent in chunks.
type send func(method, uri, token string, header http.Header, body io.Reader) (answer, error)

func httpSend(method, uri, token string, header http.Header, body io.Reader) (answer, error) {
	request, err := http.NewRequest(method, uri, body)
	if err != nil {
		return answer{}, err
	}
	return read(fill(request, header, token), http.DefaultClient.Do)
}

func retryableSend(method, uri, token string, header http.Header, body io.Reader) (answer, error) {
	client := retryablehttp.NewClient()
	client.HTTPClient, client.Logger = http.DefaultClient, nil
	var content any
	if body != nil {
		content = body
	}
	request, err := retryablehttp.NewRequest(method, uri, content)
	if err != nil {
		return answer{}, err
	}
	if _, sized := body.(*bytes.Reader); !sized && body != nil {
		request.ContentLength = -1
	}
	fill(request.Request, header, token)
	return read(request, client.Do)
}

func fill(request *http.Request, header http.Header, token string) *http.Request {
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("Authorization", "Bearer "+token)
	return request
}

func read[R any](request R, do func(R) (*http.Response, error)) (answer, error) {
	response, err := do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, body}, err
}

// In parts, so that the client does not know the length.
func pieces(content []byte) io.Reader { return io.MultiReader(bytes.NewReader(content)) }

func httpCases(client string, send send) {
	report(client, "early-expired", early(send, given.Base+"/echo", given.Expired, 401))
	report(client, "early-denied", early(send, given.Denied, given.Token, 403))
	uploaded := func(header http.Header, body io.Reader) func() error {
		return func() error {
			got, err := send("PUT", given.Base+"/echo", given.Token, header, body)
			return errors.Join(err, equal(got.status, 200), counted(got, len(large), len(large)))
		}
	}
	report(client, "chunked", uploaded(nil, pieces(large)))
	expecting := http.Header{"Expect": {"100-continue"}}
	report(client, "expect", uploaded(expecting, bytes.NewReader(large)))
	report(client, "expect-expired", func() error {
		got, err := send("PUT", given.Base+"/echo", given.Expired, expecting, bytes.NewReader(large))
		return errors.Join(err, equal(got.status, 401))
	})
	report(client, "gzip", func() error {
		got, err := send("GET", given.Base+"/gzip", given.Token, nil, nil)
		return errors.Join(err, equal(got.status, 200), equal(len(got.body), 100_000))
	})
	report(client, "range", func() error {
		header := http.Header{"Range": {"bytes=10-19"}}
		got, err := send("GET", given.Base+"/range", given.Token, header, nil)
		part := got.header.Get("Content-Range") + " " + string(got.body)
		return errors.Join(err, equal(got.status, 206), equal(part, "bytes 10-19/26 klmnopqrst"))
	})
	report(client, "multipart", func() error {
		var form bytes.Buffer
		writer := multipart.NewWriter(&form)
		file, _ := writer.CreateFormFile("file", "a.bin")
		file.Write(small)
		writer.Close()
		header := http.Header{"Content-Type": {writer.FormDataContentType()}}
		body := bytes.NewReader(form.Bytes())
		got, err := send("POST", given.Base+"/echo", given.Token, header, body)
		return errors.Join(err, equal(got.status, 200), counted(got, len(small), len(small)+1000))
	})
	kept := func(name string, body func([]byte) io.Reader) {
		report(client, name, func() error {
			own := given.Keepalive[client+" "+name]
			for range 5 {
				got, err := send("PUT", own+"/echo", given.Token, nil, body(small))
				if err := errors.Join(err, equal(got.status, 200)); err != nil {
					return err
				}
				got, err = send("GET", own+"/gzip", given.Token, nil, nil)
				if err := errors.Join(err, equal(got.status, 200)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	kept("keep-alive", func(content []byte) io.Reader { return bytes.NewReader(content) })
	kept("keep-alive-chunked", pieces)
}

func early(send send, uri, token string, wanted int) func() error {
	return func() error {
		for range given.Repeats {
			got, err := send("PUT", uri, token, nil, bytes.NewReader(large))
			if err := errors.Join(err, equal(got.status, wanted)); err != nil {
				return err
			}
		}
		return nil
	}
}

func counted(got answer, least, most int) error {
	var said echo
	if err := json.Unmarshal(got.body, &said); err != nil {
		return err
	}
	if said.Bytes < least || said.Bytes > most {
		return fmt.Errorf("%d bytes arrived", said.Bytes)
	}
	return nil
}

func generated() {
	connection, err := grpc.NewClient(given.Grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+given.Token)
	tenants, tokens := pb.NewTenantServiceClient(connection), pb.NewTokenServiceClient(connection)
	unary := func(options ...grpc.CallOption) func() error {
		return func() error {
			got, err := tenants.GetTenant(ctx, &pb.GetTenantRequest{Name: given.Tenant}, options...)
			return errors.Join(err, equal(got.GetTenant().GetName(), given.Tenant))
		}
	}
	report("grpc-go", "unary", unary())
	report("grpc-go", "gzip", unary(grpc.UseCompressor(gzip.Name)))
	report("grpc-go", "watch", func() error {
		ctx, cancel := context.WithCancel(ctx)
		watch, err := tokens.WatchSystemTicket(ctx, &pb.WatchSystemTicketRequest{Tenant: given.Tenant})
		if err != nil {
			cancel()
			return err
		}
		first, err := watch.Recv()
		cancel()
		_, end := watch.Recv()
		return errors.Join(err, equal(first.GetTicket().GetValue() != "", true), equal(status.Code(end), codes.Canceled))
	})
	report("grpc-go", "error-details", func() error {
		_, err := tenants.GetTenant(ctx, &pb.GetTenantRequest{Name: "nonsense"})
		var said []string
		for _, detail := range status.Convert(err).Details() {
			switch detail := detail.(type) {
			case *errdetails.ErrorInfo:
				said = append(said, detail.Domain, detail.Reason)
			case *errdetails.BadRequest:
				for _, violation := range detail.FieldViolations {
					said = append(said, violation.Field)
				}
			}
		}
		wanted := "tenantgateway INVALID_ARGUMENT name"
		return errors.Join(equal(status.Code(err), codes.InvalidArgument), equal(strings.Join(said, " "), wanted))
	})
}

func main() {
	if err := json.Unmarshal([]byte(os.Args[1]), &given); err != nil {
		panic(err)
	}
	http.DefaultClient.Timeout = deadline
	http.DefaultTransport.(*http.Transport).ExpectContinueTimeout = 5 * time.Second
	httpCases("net/http", httpSend)
	httpCases("go-retryablehttp", retryableSend)
	generated()
	if failed {
		os.Exit(1)
	}
}
