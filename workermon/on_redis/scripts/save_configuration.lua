-- Save a configuration whose revision is one above the saved one. Returns 1, or 0 if it is not.
-- Repeating a call whose answer was lost returns 1 and changes nothing.
local configuration = KEYS[1] -- hash: document and revision
local revision      = ARGV[1]
local document      = ARGV[2]

local saved_revision, saved_document = unpack(redis.call('HMGET', configuration, 'revision', 'document'))
if saved_revision == revision and saved_document == document then return 1 end
if (tonumber(saved_revision or '0') or 0) + 1 ~= tonumber(revision) then return 0 end
redis.call('HSET', configuration, 'revision', revision, 'document', document)
return 1
