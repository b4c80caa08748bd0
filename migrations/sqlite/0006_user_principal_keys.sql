-- Keys of user principal names are in Unicode NFC and case folded. Up to here they were in lower case, which for ASCII
-- is the same. SQLite knows no more than ASCII, so the program fills in the empty keys in the transaction of this file.
UPDATE grants SET user_principal_key = '' WHERE user_principal_name GLOB '*[^ -~]*';
