import com.google.gson.Gson;
import com.google.protobuf.Any;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.Channel;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.zip.GZIPInputStream;
import org.apache.hc.client5.http.classic.methods.HttpUriRequestBase;
import org.apache.hc.client5.http.config.RequestConfig;
import org.apache.hc.client5.http.entity.mime.MultipartEntityBuilder;
import org.apache.hc.client5.http.impl.classic.CloseableHttpClient;
import org.apache.hc.client5.http.impl.classic.HttpClients;
import org.apache.hc.core5.http.ContentType;
import org.apache.hc.core5.http.HttpEntity;
import org.apache.hc.core5.http.io.entity.EntityUtils;
import org.apache.hc.core5.http.io.entity.ByteArrayEntity;
import org.apache.hc.core5.http.io.entity.InputStreamEntity;
import tenantgateway.v1.GetTenantRequest;
import tenantgateway.v1.TenantServiceGrpc;
import tenantgateway.v1.TokenServiceGrpc;
import tenantgateway.v1.WatchSystemTicketRequest;

/**
 * Calls the gateway with HTTP clients of Java and with code that Java's official generators create from proto/.
 *
 * <p>Prints a line for each case, and exits with 1 if one of them failed.
 */
public final class Check {
  private static final int LARGE = 5_000_000;
  private static final int SMALL = 100_000;
  private static final Duration DEADLINE = Duration.ofSeconds(30);

  private static Given given;
  private static boolean failed;

  private record Given(
      String base,
      String denied,
      String token,
      String expired,
      String grpc,
      String tenant,
      int repeats,
      Map<String, String> keepalive) {}

  private record Echo(int bytes, String contentType) {}

  private record Answer(int status, Map<String, String> headers, byte[] body) {}

  /** The way in which a body is sent. */
  private enum How { SIZED, CHUNKED, EXPECTING, FORM }

  private interface Client {
    Answer send(String method, String uri, Map<String, String> headers, byte[] body, How how)
        throws Exception;
  }

  private interface Case {
    void run() throws Exception;
  }

  private static void report(String client, String name, Case run) {
    long begin = System.nanoTime();
    String outcome = "ok";
    try {
      run.run();
    } catch (Exception | AssertionError error) {
      failed = true;
      outcome = "FAILED: " + error;
    }
    long took = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - begin);
    System.out.println(client + " " + name + " " + took + " ms: " + outcome);
  }

  private static void equal(Object got, Object wanted) {
    if (!Objects.equals(got, wanted)) {
      throw new AssertionError(got + " is not " + wanted);
    }
  }

  private static Map<String, String> bearing(String token, String... more) {
    Map<String, String> headers = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
    headers.put("Authorization", "Bearer " + token);
    for (int i = 0; i < more.length; i += 2) {
      headers.put(more[i], more[i + 1]);
    }
    return headers;
  }

  private static Answer jdk(
      HttpClient client, String method, String uri, Map<String, String> headers, byte[] body, How how)
      throws Exception {
    HttpRequest.BodyPublisher publisher = BodyPublishers.noBody();
    if (how == How.FORM) { // The JDK has no forms: this is what one writes by hand.
      ByteArrayOutputStream form = new ByteArrayOutputStream();
      String head = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.bin\"\r\n\r\n";
      form.writeBytes(head.getBytes(StandardCharsets.US_ASCII));
      form.writeBytes(body);
      form.writeBytes("\r\n--b--\r\n".getBytes(StandardCharsets.US_ASCII));
      headers.put("Content-Type", "multipart/form-data; boundary=b");
      publisher = BodyPublishers.ofByteArray(form.toByteArray());
    } else if (how == How.CHUNKED) {
      publisher = BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body));
    } else if (body != null) {
      publisher = BodyPublishers.ofByteArray(body);
    }
    HttpRequest.Builder request =
        HttpRequest.newBuilder(URI.create(uri)).timeout(DEADLINE).method(method, publisher);
    headers.forEach(request::header);
    var got =
        client.send(request.expectContinue(how == How.EXPECTING).build(), BodyHandlers.ofByteArray());
    Map<String, String> said = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
    got.headers().map().forEach((name, values) -> said.put(name, values.get(0)));
    byte[] content = got.body();
    if ("gzip".equals(said.get("Content-Encoding"))) { // It decompresses nothing by itself.
      content = new GZIPInputStream(new ByteArrayInputStream(content)).readAllBytes();
    }
    return new Answer(got.statusCode(), said, content);
  }

  private static Answer apache(
      CloseableHttpClient client,
      String method,
      String uri,
      Map<String, String> headers,
      byte[] body,
      How how)
      throws Exception {
    HttpUriRequestBase request = new HttpUriRequestBase(method, URI.create(uri));
    headers.forEach(request::setHeader);
    request.setConfig(
        RequestConfig.custom()
            .setExpectContinueEnabled(how == How.EXPECTING)
            .setResponseTimeout(30, TimeUnit.SECONDS)
            .build());
    ContentType binary = ContentType.APPLICATION_OCTET_STREAM;
    HttpEntity entity =
        switch (how) {
          case FORM -> MultipartEntityBuilder.create().addBinaryBody("f", body, binary, "a.bin").build();
          case CHUNKED -> new InputStreamEntity(new ByteArrayInputStream(body), -1, binary);
          default -> body == null ? null : new ByteArrayEntity(body, binary);
        };
    request.setEntity(entity);
    return client.execute(
        request,
        got -> {
          Map<String, String> said = new TreeMap<>(String.CASE_INSENSITIVE_ORDER);
          for (var header : got.getHeaders()) {
            said.put(header.getName(), header.getValue());
          }
          return new Answer(got.getCode(), said, EntityUtils.toByteArray(got.getEntity()));
        });
  }

  private static void httpCases(String name, Client client) {
    byte[] large = new byte[LARGE];
    byte[] small = new byte[SMALL];
    String echo = given.base + "/echo";
    report(name, "early-expired", () -> early(client, echo, given.expired, 401));
    report(name, "early-denied", () -> early(client, given.denied, given.token, 403));
    report(name, "chunked", () -> uploaded(client.send("PUT", echo, bearing(given.token), large, How.CHUNKED), LARGE, LARGE));
    report(name, "expect", () -> uploaded(client.send("PUT", echo, bearing(given.token), large, How.EXPECTING), LARGE, LARGE));
    // Older JDK clients wait forever if the response to `Expect` is not 100 (JDK-8286171).
    if (!name.equals("jdk")) {
      report(
          name,
          "expect-expired",
          () -> equal(client.send("PUT", echo, bearing(given.expired), large, How.EXPECTING).status, 401));
    }
    report(
        name,
        "gzip",
        () -> {
          var headers = bearing(given.token, "Accept-Encoding", "gzip");
          Answer got = client.send("GET", given.base + "/gzip", headers, null, How.SIZED);
          equal(got.status, 200);
          equal(got.body.length, 100_000);
        });
    report(
        name,
        "range",
        () -> {
          var headers = bearing(given.token, "Range", "bytes=10-19");
          Answer got = client.send("GET", given.base + "/range", headers, null, How.SIZED);
          equal(got.status, 206);
          equal(got.headers.get("Content-Range"), "bytes 10-19/26");
          equal(new String(got.body, StandardCharsets.US_ASCII), "klmnopqrst");
        });
    report(name, "multipart", () -> uploaded(client.send("POST", echo, bearing(given.token), small, How.FORM), SMALL, SMALL + 1000));
    report(name, "keep-alive", () -> keepAlive(client, name + " keep-alive", small, How.SIZED));
    report(name, "keep-alive-chunked", () -> keepAlive(client, name + " keep-alive-chunked", small, How.CHUNKED));
  }

  private static void early(Client client, String uri, String token, int wanted) throws Exception {
    for (int i = 0; i < given.repeats; i++) {
      equal(client.send("PUT", uri, bearing(token), new byte[LARGE], How.SIZED).status, wanted);
    }
  }

  private static void uploaded(Answer got, int least, int most) {
    equal(got.status, 200);
    Echo echo = new Gson().fromJson(new String(got.body, StandardCharsets.UTF_8), Echo.class);
    equal(echo.bytes >= least && echo.bytes <= most, true);
  }

  private static void keepAlive(Client client, String name, byte[] body, How how) throws Exception {
    String own = given.keepalive.get(name);
    for (int i = 0; i < 5; i++) {
      equal(client.send("PUT", own + "/echo", bearing(given.token), body, how).status, 200);
      equal(client.send("GET", own + "/gzip", bearing(given.token), null, How.SIZED).status, 200);
    }
  }

  private static void generated() {
    Metadata metadata = new Metadata();
    metadata.put(
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + given.token);
    var plain = Grpc.newChannelBuilder(given.grpc, InsecureChannelCredentials.create());
    Channel channel =
        plain.intercept(MetadataUtils.newAttachHeadersInterceptor(metadata)).build();
    var tenants =
        TenantServiceGrpc.newBlockingStub(channel).withDeadlineAfter(30, TimeUnit.SECONDS);
    var tokens = TokenServiceGrpc.newBlockingStub(channel).withDeadlineAfter(30, TimeUnit.SECONDS);
    var wanted = GetTenantRequest.newBuilder().setName(given.tenant).build();
    report("grpc-java", "unary", () -> equal(tenants.getTenant(wanted).getTenant().getName(), given.tenant));
    var compressing = tenants.withCompression("gzip");
    report("grpc-java", "gzip", () -> equal(compressing.getTenant(wanted).getTenant().getName(), given.tenant));
    report(
        "grpc-java",
        "watch",
        () -> {
          var request = WatchSystemTicketRequest.newBuilder().setTenant(given.tenant).build();
          try (var context = Context.current().withCancellation()) {
            var stream = context.call(() -> tokens.watchSystemTicket(request));
            equal(stream.next().getTicket().getValue().isEmpty(), false);
            context.cancel(null);
            try {
              stream.next();
              throw new AssertionError("not cancelled");
            } catch (StatusRuntimeException error) {
              equal(error.getStatus().getCode(), Status.Code.CANCELLED);
            }
          }
        });
    report(
        "grpc-java",
        "error-details",
        () -> {
          try {
            tenants.getTenant(GetTenantRequest.newBuilder().setName("nonsense").build());
            throw new AssertionError("not refused");
          } catch (StatusRuntimeException error) {
            equal(error.getStatus().getCode(), Status.Code.INVALID_ARGUMENT);
            List<String> said = new ArrayList<>();
            for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
              if (detail.is(ErrorInfo.class)) {
                ErrorInfo info = detail.unpack(ErrorInfo.class);
                said.addAll(List.of(info.getDomain(), info.getReason()));
              } else if (detail.is(BadRequest.class)) {
                detail.unpack(BadRequest.class).getFieldViolationsList().forEach(v -> said.add(v.getField()));
              }
            }
            equal(said, List.of("tenantgateway", "INVALID_ARGUMENT", "name"));
          }
        });
  }

  public static void main(String[] arguments) throws Exception {
    given = new Gson().fromJson(arguments[0], Given.class);
    HttpClient jdk = HttpClient.newBuilder().connectTimeout(DEADLINE).build(); // It asks for an upgrade to h2c.
    httpCases("jdk", (method, uri, headers, body, how) -> jdk(jdk, method, uri, headers, body, how));
    try (CloseableHttpClient apache = HttpClients.createDefault()) {
      httpCases("apache", (method, uri, headers, body, how) -> apache(apache, method, uri, headers, body, how));
    }
    generated();
    System.exit(failed ? 1 : 0);
  }
}
