//! The reference servers, each in a process of its own. Each returns one answer to every request.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost::Message;
use tenant_gateway::grpc::pb::{
    self,
    associate_service_server::{AssociateService, AssociateServiceServer},
    token_service_server::{TokenService, TokenServiceServer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    runtime::{Builder, Runtime},
};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// A tonic server that returns tickets.
pub(crate) const TICKET: &str = "ticket";
/// A tonic server that returns associates.
pub(crate) const ASSOCIATE: &str = "associate";
/// A web API behind the proxies.
pub(crate) const UPSTREAM: &str = "upstream";

/// The size of a response of the upstream: that of one contact.
const BODY_BYTES: usize = 1024;

/// Returns a message as an argument for [`serve`].
pub(crate) fn encode(answer: &impl Message) -> String {
    BASE64_STANDARD.encode(answer.encode_to_vec())
}

fn decode<M: Message + Default>(answer: &str) -> M {
    M::decode(&*BASE64_STANDARD.decode(answer).unwrap()).unwrap()
}

/// Serves until the process is killed.
pub(crate) fn serve(kind: &str, answer: &str) {
    if kind == UPSTREAM {
        return upstream();
    }
    // Tonic's own defaults.
    let mut builder = tonic::transport::Server::builder();
    let server = match kind {
        TICKET => {
            let answer = decode::<pb::IssueSystemTicketResponse>(answer);
            builder.add_service(TokenServiceServer::new(Bare(answer)))
        }
        ASSOCIATE => {
            let answer = decode::<pb::GetAssociateResponse>(answer);
            builder.add_service(AssociateServiceServer::new(Bare(answer)))
        }
        _ => panic!("there is no reference {kind}"),
    };
    Runtime::new().unwrap().block_on(async {
        let incoming = TcpIncoming::from(listen().await).with_nodelay(Some(true));
        server.serve_with_incoming(incoming).await.unwrap();
    });
}

/// Opens a port, and prints its address in the same form as the gateway.
async fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    eprintln!("{}", serde_json::json!({ "grpc": listener.local_addr().unwrap() }));
    listener
}

/// A service that always returns the same response.
struct Bare<M>(M);

#[tonic::async_trait]
impl TokenService for Bare<pb::IssueSystemTicketResponse> {
    async fn issue_system_ticket(
        &self,
        _: Request<pb::IssueSystemTicketRequest>,
    ) -> Result<Response<pb::IssueSystemTicketResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }

    type WatchSystemTicketStream =
        tokio_stream::Empty<Result<pb::WatchSystemTicketResponse, Status>>;

    async fn watch_system_ticket(
        &self,
        _: Request<pb::WatchSystemTicketRequest>,
    ) -> Result<Response<Self::WatchSystemTicketStream>, Status> {
        Err(Status::unimplemented("reference"))
    }

    async fn report_rejected_credential(
        &self,
        _: Request<pb::ReportRejectedCredentialRequest>,
    ) -> Result<Response<pb::ReportRejectedCredentialResponse>, Status> {
        Err(Status::unimplemented("reference"))
    }
}

macro_rules! associate_service {
    ($($method:ident($request:ident) -> $response:ident;)+) => {
        #[tonic::async_trait]
        impl AssociateService for Bare<pb::GetAssociateResponse> {
            async fn get_associate(
                &self,
                _: Request<pb::GetAssociateRequest>,
            ) -> Result<Response<pb::GetAssociateResponse>, Status> {
                Ok(Response::new(self.0.clone()))
            }

            $(async fn $method(
                &self,
                _: Request<pb::$request>,
            ) -> Result<Response<pb::$response>, Status> {
                Err(Status::unimplemented("reference"))
            })+
        }
    };
}

associate_service! {
    batch_get_associates(BatchGetAssociatesRequest) -> BatchGetAssociatesResponse;
    list_associates(ListAssociatesRequest) -> ListAssociatesResponse;
    lookup_associate(LookupAssociateRequest) -> LookupAssociateResponse;
    get_current_principal(GetCurrentPrincipalRequest) -> GetCurrentPrincipalResponse;
    list_user_groups(ListUserGroupsRequest) -> ListUserGroupsResponse;
    list_roles(ListRolesRequest) -> ListRolesResponse;
    resolve_owner(ResolveOwnerRequest) -> ResolveOwnerResponse;
}

/// Returns the same bytes for every request, as fast as possible. Requests have no bodies.
fn upstream() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = listen().await;
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: \"5\"\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
        );
        let answer: &'static [u8] = [head.into_bytes(), vec![b' '; BODY_BYTES]].concat().leak();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let mut buffer = Vec::with_capacity(4096);
                while stream.read_buf(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {
                    if buffer.ends_with(b"\r\n\r\n") {
                        buffer.clear();
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
}
