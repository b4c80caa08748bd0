// A service that uses SuperOffice's own client library, and has no credential of SuperOffice: only the base address is
// another. Writes what came back as JSON.
import { createRequire } from "node:module";

const [modules, given] = process.argv.slice(2);
const { WebApi } = createRequire(`${modules}/`)("@superoffice/webapi");
const { base, token, ticket, headers, associates } = JSON.parse(given);

const webapi = new WebApi(base, { headers });
if (token) webapi.authenticateWithToken(token);
if (ticket) {
  webapi.authenticateWithTicket(ticket);
  webapi.applicationToken("of-the-library");
}
const agent = webapi.getAssociateAgent();
const one = await agent.getAssociateAsync(associates[0]);
const list = await agent.getAssociateListAsync(associates);
const denied = await agent.getEncryptionKeyAsync().catch((error) => error.response);
console.log(
  JSON.stringify({
    one: { associateId: one.associateId, fullName: one.fullName },
    list: list.map((associate) => associate.associateId),
    denied: { status: denied.status, reason: denied.data.reason },
  }),
);
