-- Meta gives a business number a new phone_number_id where it moves to another WABA. Its conversations go on under the new id; what still comes
-- under the old one belongs to them.
alter table whatsapp_numbers add column replaced_by text;
