//! Room for the Web API about people: associates, users, groups, roles. Their addresses answer
//! 404 until they are built here.
