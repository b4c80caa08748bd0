//! Room for the sign-in of people: authorize, tokens, revoke, logout. The discovery document
//! names these addresses; they answer 404 until they are built here.
