// Sends one unsafe call with @grpc/grpc-js, whose service config retries, and prints the result.
// Arguments: the folder with node_modules, the address of the gRPC listener, a `CallRequest` in base64.
import { createRequire } from 'node:module';

const [modules, address, message] = process.argv.slice(2);
const grpc = createRequire(`${modules}/`)('@grpc/grpc-js');
const retryPolicy = {
  maxAttempts: 3,
  initialBackoff: '0.1s',
  maxBackoff: '0.2s',
  backoffMultiplier: 1,
  // Also retries the codes that the gateway returns for unknown outcomes.
  retryableStatusCodes: ['UNAVAILABLE', 'ABORTED', 'DEADLINE_EXCEEDED', 'RESOURCE_EXHAUSTED'],
};
const name = [{ service: 'tenantgateway.v1.WebApiService' }];
const client = new grpc.Client(address, grpc.credentials.createInsecure(), {
  'grpc.service_config': JSON.stringify({ loadBalancingConfig: [], methodConfig: [{ name, retryPolicy }] }),
});
const same = (bytes) => bytes;
const method = '/tenantgateway.v1.WebApiService/Call';
client.makeUnaryRequest(method, same, same, Buffer.from(message, 'base64'), (error) => {
  console.log(JSON.stringify({ ended: error ? grpc.status[error.code] : 'OK' }));
  client.close();
});
